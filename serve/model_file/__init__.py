"""The metadata in a model.onnx, and its place in a folder of models."""

from serve.model_file.spec import ModelSpec, PrepareSpec

__all__ = ["ModelSpec", "PrepareSpec"]
