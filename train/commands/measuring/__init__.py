"""`python -m train.measure`: what an answer of each shipped file costs, and how right it is."""
