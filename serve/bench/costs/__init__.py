"""What a feature of the server costs: the same load with it and without it, in turn."""
