"""A graph -> what an answer of it costs: multiplications, and time on one core."""
