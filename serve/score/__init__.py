"""The engine without a server: any number of images, on all cores of a machine or over a Ray cluster."""

from serve.score.scorer import Scorer

__all__ = ["Scorer"]
