"""Image files -> pixels uint8 [H, W, C], with all limits on what a client may send."""
