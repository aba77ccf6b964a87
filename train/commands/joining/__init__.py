"""`python -m train.cascade`: two model files -> one that asks the second net about unsure images alone."""
