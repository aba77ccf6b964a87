"""The standard services: health and reflection. Balancers, probes and command lines know them by name."""
