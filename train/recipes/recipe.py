"""The settings of a training run, as data. Enters and leaves: nothing. Does not know: Keras, or any recipe by name.

`shipped.py` has the recipes of the models that ship, `notebooks.py` those that repeat an experiment.
"""

from collections.abc import Mapping
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
    people: float = 0.0
    """Share of the images, 0 to 1, that are seen as `prepare` gives them from people's pictures of digits on paper.

    Each training image has one such picture, drawn before the first epoch.
    """
    cutout_pixels: int = 0
    """Side of a square that is made black (DeVries & Taylor 2017); 0 makes none."""


@dataclass(frozen=True)
class Degradation:
    """What cameras, files and screens do to pictures, done at random to a share of the training images.

    The strength of each kind has its own draw, from nothing to the limit here. An image gets up to `most_kinds`, one
    after another (Hendrycks et al. 2020, "AugMix", has such chains of other operations).
    """

    share: float = 0.7
    """Share of the images that are degraded, from 0 to 1."""
    most_kinds: int = 2
    """Largest number of kinds that one image gets."""
    noise: float = 26.0
    """Largest standard deviation of noise, in grey levels from 0 to 255."""
    blur_pixels: float = 1.3
    """Largest standard deviation of a blur, which may be wider in one direction than in the other."""
    jpeg_quality: int = 23
    """Lowest quality of JPEG, from 1 to 95."""
    rotation_degrees: float = 20.0
    """Largest rotation in either direction."""
    smallest_scale: float = 0.6
    """Smallest scale of the image inside its frame; up to 1.1 it grows."""
    lowest_contrast: float = 0.2
    """Smallest factor of the contrast; brightness and colour change in proportion."""


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
    degradation: Degradation | None = None
    """What is done to the images between the shift and the square; None does nothing."""


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
class Distillation:
    """A model file that shares in the targets of the training (Hinton et al. 2015)."""

    teacher: str = ""
    """Path of the file. A recipe of `shipped.py` has none, for a flag names it."""
    share: float = 0.5
    """Share of the teacher's answer in a target, from 0 to 1; the label has the rest."""
    temperature: float = 2.0
    """Divisor of the teacher's logits. Above 1 it raises the probabilities of the other classes."""
    views: bool = False
    """Whether the teacher answers each image as an epoch shows it, moved and degraded (Beyer et al. 2022).

    So it says what can still be seen there, and each epoch pays for its answers. Otherwise it answers the images as
    they are, once before the first epoch. The transform of an `Augmentation` comes later, in the compiled step, so a
    teacher does not see it.
    """


@dataclass(frozen=True)
class Tuning:
    """The last epochs of a run, on images as people have them, after all others on the dataset's own.

    From the weights of a file it takes minutes, where all epochs on such images would take as long as a whole training.
    """

    epochs: int
    peak_learning_rate: float
    """Learning rate of the first step; a cosine falls from there to 0."""
    augmentation: Augmentation | Crop
    """Of the recipe's own kind. The transform of an `Augmentation` has the ranges of the recipe's all the time."""
    share: float = 1.0
    """Share of the tuned weights, from 0 to 1, in the mean with the weights before the tuning.

    The mean keeps more of the accuracy on the dataset's own images (Wortsman et al. 2022, "WiSE-FT"). With 1, the run
    ends with the tuned weights alone.
    """
    strangers: int = 0
    """Least number of made images of no class that each epoch shows, too.

    Their target gives all classes the same share, so the net is unsure of them and of their like (Hendrycks et al.
    2019, "Outlier Exposure").
    """


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
    second_view_share: float = 0.0
    """Share of the images, those with the least sure answers, whose mirror image the exported model looks at, too.

    It averages both logits then. The share of held-out images sets the threshold; 0 looks at no mirror image.
    """
    averaging: float = 0.0
    """Decay per step of a moving average of the weights. The average is kept if its validation accuracy is no lower.

    0 averages nothing.
    """
    initial: str | None = None
    """Path of a model file whose weights the training starts from; None starts from random weights."""
    distillation: Distillation | None = None
    """Another model's share in the targets; None has only the labels."""
    gives_familiarity: bool = False
    """Whether the exported file has the output `familiarity`. Beside a net of a few microseconds it is not cheap."""
    halves_weights: bool = False
    """Whether the exported file has its kernels in 16 bits: half the size, and still float32 arithmetic."""
    tuning: Tuning | None = None
    """What follows the `epochs`; with 0 of them, and `initial`, it is all that is done. None ends there."""

    @property
    def total_epochs(self) -> int:
        """All epochs of a run."""
        return self.epochs + (self.tuning.epochs if self.tuning else 0)

    def find_augmentation(self, epoch: int) -> Augmentation | Crop | None:
        """How the images of an epoch, from 0, are changed."""
        return self.tuning.augmentation if self.tuning and epoch >= self.epochs else self.augmentation

    @property
    def last_augmentation(self) -> Augmentation | Crop | None:
        """How the images of the last epoch are changed."""
        return self.find_augmentation(self.total_epochs - 1)


def read_augmentation(facts: Mapping[str, Any]) -> Augmentation | Crop | None:
    """The last augmentation in a recipe's description, as a model file holds it. Raises TypeError for another one."""
    described = (facts.get("tuning") or facts).get("augmentation")
    if not described:
        return None
    settings = {key: value for key, value in described.items() if key != "kind"}
    if described["kind"] != "crop":
        return Augmentation(**settings)
    degradation = settings.pop("degradation", None)
    return Crop(**settings, degradation=Degradation(**degradation) if degradation else None)


def describe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON values, for the metadata of a model file and for the checkpoint of a run."""
    kinds = {"optimizer": recipe.optimizer, "augmentation": recipe.augmentation}
    named = {key: _describe_kind(part) for key, part in kinds.items() if part}
    if recipe.tuning:
        named["tuning"] = asdict(recipe.tuning) | {"augmentation": _describe_kind(recipe.tuning.augmentation)}
    return asdict(recipe) | {"net": spell(recipe.net)} | named


def _describe_kind(part: Adam | Muon | Augmentation | Crop) -> dict[str, Any]:
    return {"kind": type(part).__name__.lower(), **asdict(part)}
