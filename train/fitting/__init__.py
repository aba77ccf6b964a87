"""A net and data -> weights, checkpoints and a calibration."""
