"""What a training run is made of, as data. Enters and leaves: nothing. Does not know: Keras, or any recipe by name.

`recipes.py` has the recipes that ship a model, `notebooks.py` those that repeat an experiment.
"""

from dataclasses import asdict, dataclass
from typing import Any

from serve.model_file.spec import PrepareSpec
from train.recipes.net import Net, spell


@dataclass(frozen=True)
class Augmentation:
    """The ranges of one random affine transform per training image, each drawn evenly; as Keras' ImageDataGenerator."""

    rotation_degrees: float
    """Either way."""
    shift: float
    """Either way, as a fraction of the side; its own draw for each axis."""
    zoom: float
    """Either way from 1; its own draw for each axis."""
    horizontal_flip: bool
    """Half of the images are mirrored."""
    shear: float = 0.0
    """Either way, as the shift of a row per row."""
    stroke: float = 0.0
    """Either way, how far each pixel goes towards the darkest or the lightest of its 3 x 3 neighbours, at most 1."""
    blur: float = 0.0
    """How far each pixel goes towards the mean of its 3 x 3 neighbours, at most 1."""


@dataclass(frozen=True)
class Crop:
    """A random part of each training image, moved by whole pixels and mirrored in every other epoch.

    An image is mirrored in the even epochs or in the odd ones, as a coin decides once (Jordan 2024, section 3.6): two
    epochs show it both ways, where a coin each time shows half of them the same side twice.
    """

    shift_pixels: int
    """Either way, its own draw for each axis; what comes in at a border is the image mirrored there."""
    cutout_pixels: int = 0
    """The side of a square that is made grey (DeVries & Taylor 2017)."""


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015)."""

    beta_2: float = 0.999
    """How much it keeps of the squared gradients before."""


@dataclass(frozen=True)
class Muon:
    """Muon for convolutions, whose kernels it keeps at one length; Adam for the rest (Jordan et al. 2024)."""

    momentum: float = 0.6
    adam_share: float = 0.05
    """Adam's rate, as a share of Muon's."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run, except its seed and its numeric precision."""

    name: str
    """Of the recipe, and of the model that is served."""
    net: Net
    dataset: str
    """A name that `train.data.datasets.load` knows."""
    epochs: int
    batch_size: int
    augmentation: Augmentation | Crop | None
    peak_learning_rate: float
    """Reached after `warmup_epochs` from 0, then a cosine down to 0 at the last step."""
    prepare: PrepareSpec
    """How a server makes this model's input of any image."""
    target_accuracy: float
    """On the test set; a run that ends below it exits with code 3."""
    measured_accuracy: float
    """On the test set, of the file in models/ or of the run in the table; for reading."""
    warmup_epochs: int = 1
    optimizer: Adam | Muon = Adam()
    label_smoothing: float = 0.0
    """Of the cross-entropy, 0 to 1."""
    validation_count: int = 5000
    """Training images held out: they choose the epoch whose weights are kept, and the temperature."""
    keeps_last: bool = False
    """Whether the last epoch's weights are kept, whichever did best on the validation images."""
    patience: int | None = None
    """How many epochs in a row may bring no better validation accuracy: then the run stops early. None: it never does.

    The schedule of the learning rate stays that of all `epochs`.
    """
    mirrors: bool = False
    """Whether the exported model answers with the mean of an image's logits and its mirror image's: twice the work."""
    halves_weights: bool = False
    """Whether the exported file keeps its kernels in 16 bits: half the size, and float32 arithmetic as ever."""


def describe(recipe: Recipe) -> dict[str, Any]:
    """A recipe in JSON's own values: what a model file says of its training, and what a resumed run must share."""
    kinds = {"optimizer": recipe.optimizer, "augmentation": recipe.augmentation}
    named = {key: {"kind": type(part).__name__.lower(), **asdict(part)} for key, part in kinds.items() if part}
    return asdict(recipe) | {"net": spell(recipe.net)} | named
