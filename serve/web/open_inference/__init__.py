"""The Open Inference Protocol, version 2, over REST, with the binary extension of its tensors."""
