"""A recipe -> a keras.Model, its layers and its optimizer."""
