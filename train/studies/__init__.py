"""A plan of values and seeds -> runs -> a table and a plot."""
