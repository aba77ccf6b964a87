"""A model -> a sealed model.onnx that was read back, and its variants in fewer bits."""

from train.export.from_keras import Exported, export

__all__ = ["Exported", "export"]
