"""Image files -> pixels, uint8 [H, W, C], with every limit on what a caller may send."""
