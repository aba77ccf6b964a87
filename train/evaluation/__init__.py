"""Probabilities and labels -> figures, pictures and a model card."""
