"""From single requests to batches: what all batchers share, one on the event loop, one with a thread."""
