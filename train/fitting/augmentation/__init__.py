"""Training images -> the same images as a net sees them in an epoch: moved, drawn anew, cut."""
