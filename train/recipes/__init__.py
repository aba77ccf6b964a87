"""What a run is, as data. This room imports no Keras."""
