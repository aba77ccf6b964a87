"""A net and data -> weights, checkpoints, calibrated outputs."""
