"""The settings of a training run, as data. Enters and leaves: nothing. Does not know: Keras, or any recipe by name.

`shipped.py` has the recipes of the models that ship, `notebooks.py` those that repeat an experiment.
"""

from dataclasses import asdict, dataclass
from typing import Any

from serve.model_file.spec import PrepareSpec
from train.recipes.net import Net, spell


@dataclass(frozen=True)
class Augmentation:
    """The uniform ranges of a random affine transform for each training image, as in Keras' ImageDataGenerator."""

    rotation_degrees: float
    """Largest rotation in either direction."""
    shift: float
    """Largest shift in either direction, as a fraction of the side; each axis has its own draw."""
    zoom: float
    """Largest change of the scale from 1, up or down; each axis has its own draw."""
    horizontal_flip: bool
    """Whether half of the images are mirrored."""
    shear: float = 0.0
    """Largest shift of a row against the next one, in either direction, in pixels."""
    stroke: float = 0.0
    """Largest mix, 0 to 1, of each pixel with the darkest or the lightest of its 3 x 3 pixels."""
    blur: float = 0.0
    """Largest mix, 0 to 1, of each pixel with the mean of its 3 x 3 pixels."""


@dataclass(frozen=True)
class Crop:
    """Each training image moved by whole pixels and mirrored in every other epoch.

    A coin decides once whether an image is mirrored in the even or in the odd epochs (Jordan 2024, section 3.6). So two
    epochs show both sides; with a coin in each epoch, half of the images would show the same side twice.
    """

    shift_pixels: int
    """Largest shift in either direction; each axis has its own draw. The border mirrors the image."""
    cutout_pixels: int = 0
    """Side of a square that is made grey (DeVries & Taylor 2017); 0 makes none."""


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015)."""

    beta_2: float = 0.999
    """Decay of the mean of the squared gradients, from 0 to 1."""


@dataclass(frozen=True)
class Muon:
    """Muon for the kernels of convolutions, whose norm it fixes; Adam for the rest (Jordan et al. 2024)."""

    momentum: float = 0.6
    adam_share: float = 0.05
    """Learning rate of Adam, as a share of Muon's."""


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a training run, except its seed and its precision."""

    name: str
    """Name of the recipe, and of the model that is served."""
    net: Net
    dataset: str
    """Name for `train.data.datasets.load`, or the name of a folder of pictures."""
    epochs: int
    batch_size: int
    augmentation: Augmentation | Crop | None
    peak_learning_rate: float
    """Highest learning rate: a line from 0 reaches it after `warmup_epochs`, and a cosine then falls to 0."""
    prepare: PrepareSpec
    """How a server makes the model's input from any image."""
    target_accuracy: float
    """Test accuracy below which a run of the unmodified recipe exits with code 3."""
    measured_accuracy: float
    """Test accuracy of the file in models/, or of the run in the notebooks' table. It is only displayed."""
    warmup_epochs: int = 1
    optimizer: Adam | Muon = Adam()
    label_smoothing: float = 0.0
    """Label smoothing of the cross-entropy, from 0 to 1."""
    validation_count: int = 5000
    """Size of the held-out set, which chooses the epoch whose weights are kept, and the temperature."""
    keeps_last: bool = False
    """Whether to keep the weights of the last epoch instead of the epoch with the best validation accuracy."""
    patience: int | None = None
    """Epochs in a row without a better validation accuracy after which the run stops; None never stops it.

    The learning rate schedule is still that of all `epochs`.
    """
    mirrors: bool = False
    """Whether the exported model averages the logits of an image and its mirror image, at twice the work."""
    halves_weights: bool = False
    """Whether the exported file has its kernels in 16 bits: half the size, and still float32 arithmetic."""


def describe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON values, for the metadata of a model file and for the checkpoint of a run."""
    kinds = {"optimizer": recipe.optimizer, "augmentation": recipe.augmentation}
    named = {key: {"kind": type(part).__name__.lower(), **asdict(part)} for key, part in kinds.items() if part}
    return asdict(recipe) | {"net": spell(recipe.net)} | named
