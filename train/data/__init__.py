"""Published files and one's own pictures -> a split `Dataset`. No TensorFlow comes in with this room."""

from train.data.datasets import Dataset, load

__all__ = ["Dataset", "load"]
