"""A recipe -> a keras.Model with its layers and its optimizer."""
