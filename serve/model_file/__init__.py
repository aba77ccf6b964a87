"""What a model.onnx says about itself, and where it lies in a folder of models."""

from serve.model_file.spec import ModelSpec, PrepareSpec

__all__ = ["ModelSpec", "PrepareSpec"]
