"""The second output of a model file: what it is fitted to, and its nodes in the graph."""
