"""Published files or a folder of pictures -> a split `Dataset`. This room imports no TensorFlow."""

from train.data.datasets import Dataset, load

__all__ = ["Dataset", "load"]
