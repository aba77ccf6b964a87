"""The parts of a net, as data: a net is a tuple of parts from the image to the logits.

Enters: nothing. Leaves: the parts, and `spell`, which writes a net as a line. Does not know: Keras (`nets/build.py`
makes the layers), images, classes. Every model scales first and ends with logits, so these are no parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Conv:
    """A convolution with biases and ReLU."""

    filters: int
    kernel: int = 3
    padding: str = "same"
    """`same`, or `valid` for none."""

    def __str__(self) -> str:
        return f"conv {self.filters} {self.kernel}x{self.kernel}" + (" unpadded" if self.padding == "valid" else "")


@dataclass(frozen=True)
class Whitening:
    """A fixed convolution that makes the patches of training images uncorrelated with variance 1, and GELU.

    Each direction occurs with both signs, so that GELU loses none. (Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a
    Single GPU", section 3.2; after tysam-code, hlb-CIFAR10.)
    """

    kernel: int = 2

    def __str__(self) -> str:
        return f"whitening {self.kernel}x{self.kernel}"


@dataclass(frozen=True)
class NormConv:
    """A convolution without biases, max pooling by 2 if `pooled`, batch normalisation without scales, and GELU.

    The first filters start as the identity of their channels (dirac), as in Jordan 2024.
    """

    filters: int
    pooled: bool = False

    def __str__(self) -> str:
        return f"conv {self.filters} 3x3" + (" pool 2" if self.pooled else "") + " norm gelu"


@dataclass(frozen=True)
class Residual:
    """Two convolutions as in NormConv, with a shortcut that is added before the last GELU; `filters` equals channels.

    (He et al. 2016, "Deep Residual Learning"; this form is that of Jordan 2024's airbench96.)
    """

    filters: int

    def __str__(self) -> str:
        return f"residual {self.filters} 3x3 3x3 norm gelu"


@dataclass(frozen=True)
class Pool:
    """Max pooling over squares that do not overlap."""

    size: int = 2

    def __str__(self) -> str:
        return f"pool {self.size}"


@dataclass(frozen=True)
class Drop:
    """Dropout of this share of the values in training."""

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
    """All positions and channels in one row."""

    def __str__(self) -> str:
        return "flatten"


@dataclass(frozen=True)
class GlobalAverage:
    """The mean of each channel over all positions."""

    def __str__(self) -> str:
        return "mean"


@dataclass(frozen=True)
class GlobalMax:
    """The maximum of each channel over all positions."""

    def __str__(self) -> str:
        return "max"


Part = Conv | Whitening | NormConv | Residual | Pool | Drop | Dense | Flatten | GlobalAverage | GlobalMax
Net = tuple[Part, ...]


def spell(net: Sequence[Part]) -> str:
    """Write a net as a line, such as `conv 32 3x3 unpadded, pool 2, dropout 0.25, flatten, dense 128`."""
    return ", ".join(map(str, net))
