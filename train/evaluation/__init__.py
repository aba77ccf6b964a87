"""Probabilities and labels -> figures, pictures, a model card."""
