"""The Open Inference Protocol, version 2: a service that tritonclient and other stock clients call."""
