"""What a net is made of, as data: a tuple of parts from the image's side to the logits.

Enters: nothing. Leaves: the parts, and `spell`, which writes a net as a line. Does not know: Keras (`models.py` builds
layers of these), what an image or a class is. Scaling before and the logits behind are in every model and no part.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Conv:
    """A convolution with biases and ReLU."""

    filters: int
    kernel: int = 3
    padding: str = "same"
    """`same`, or `valid`: unpadded."""

    def __str__(self) -> str:
        return f"conv {self.filters} {self.kernel}x{self.kernel}" + (" unpadded" if self.padding == "valid" else "")


@dataclass(frozen=True)
class Whitening:
    """A fixed convolution whose kernels turn patches of training images into uncorrelated numbers of variance 1.

    Each direction is there twice, with either sign: none is lost in the GELU behind it. (Jordan 2024, "94% on CIFAR-10
    in 3.29 Seconds on a Single GPU", section 3.2; after tysam-code, hlb-CIFAR10.)
    """

    kernel: int = 2

    def __str__(self) -> str:
        return f"whitening {self.kernel}x{self.kernel}"


@dataclass(frozen=True)
class NormConv:
    """A convolution without biases, halved by max pooling if asked, batch normalisation without scales, and GELU.

    Its kernels start by handing their first inputs through (dirac), as in Jordan 2024.
    """

    filters: int
    pooled: bool = False

    def __str__(self) -> str:
        return f"conv {self.filters} 3x3" + (" pool 2" if self.pooled else "") + " norm gelu"


@dataclass(frozen=True)
class Residual:
    """Two convolutions as NormConv's, of as many filters as channels enter; what entered is added before the last GELU.

    (He et al. 2016, "Deep Residual Learning"; in this form in Jordan 2024's airbench96.)
    """

    filters: int

    def __str__(self) -> str:
        return f"residual {self.filters} 3x3 3x3 norm gelu"


@dataclass(frozen=True)
class Pool:
    """The largest of each square, without overlap."""

    size: int = 2

    def __str__(self) -> str:
        return f"pool {self.size}"


@dataclass(frozen=True)
class Drop:
    """Dropout: in training, this share of the values is 0."""

    rate: float

    def __str__(self) -> str:
        return f"dropout {self.rate:g}"


@dataclass(frozen=True)
class Dense:
    """A fully connected layer with biases and ReLU."""

    width: int

    def __str__(self) -> str:
        return f"dense {self.width}"


@dataclass(frozen=True)
class Flatten:
    """All places and channels in one row."""

    def __str__(self) -> str:
        return "flatten"


@dataclass(frozen=True)
class GlobalAverage:
    """Each channel's mean over all places."""

    def __str__(self) -> str:
        return "mean"


@dataclass(frozen=True)
class GlobalMax:
    """Each channel's largest value over all places."""

    def __str__(self) -> str:
        return "max"


Part = Conv | Whitening | NormConv | Residual | Pool | Drop | Dense | Flatten | GlobalAverage | GlobalMax
Net = tuple[Part, ...]


def spell(net: Sequence[Part]) -> str:
    """A net as a line, such as `conv 32 3x3 unpadded, pool 2, dropout 0.25, flatten, dense 128`."""
    return ", ".join(map(str, net))
