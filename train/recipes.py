"""How each model is trained: names -> frozen settings, and nothing that computes.

Enters: nothing. Leaves: `RECIPES`. Does not know: Keras; `models.py` has a net for every name here.
The net, the epochs, the batch size and the augmentation are those of the notebooks that the project grew out of.
The initialisation (in `models.py`), the schedule and the loss were chosen here by validation accuracy.
"""

from dataclasses import dataclass

from serve.model_file import PrepareSpec


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


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run, except its seed and its numeric precision."""

    name: str
    """Of the recipe, and of the model that is served."""
    net: str
    """A name in `models.NETS`."""
    dataset: str
    """A name that `train.data.load` knows."""
    epochs: int
    batch_size: int
    augmentation: Augmentation | None
    peak_learning_rate: float
    """Adam's, reached after `warmup_epochs` from 0, then a cosine down to 0 at the last step."""
    warmup_epochs: int
    adam_beta_2: float
    """How much Adam keeps of the squared gradients before; Keras' own is 0.999."""
    label_smoothing: float
    """Of the cross-entropy, 0 to 1."""
    validation_count: int
    """Training images held out to choose the epoch whose weights are kept."""
    prepare: PrepareSpec
    """How a server makes this model's input of any image."""
    target_accuracy: float
    """On the test set; a run that ends below it exits with code 3."""
    measured_accuracy: float
    """On the test set, of the file in models/; for reading."""


DIGIT = PrepareSpec("digit", 1, {"box": 20})
PHOTO = PrepareSpec("photo", 1, {})
NOTEBOOK_AUGMENTATION = Augmentation(rotation_degrees=10, shift=0.1, zoom=0.2, horizontal_flip=True)

_ALL = (
    Recipe(
        name="mnist-mlp",
        net="mnist-mlp",
        dataset="mnist",
        epochs=10,
        batch_size=128,
        augmentation=None,
        peak_learning_rate=2e-3,
        warmup_epochs=1,
        adam_beta_2=0.999,
        label_smoothing=0.1,
        validation_count=5000,
        prepare=DIGIT,
        target_accuracy=0.980,
        measured_accuracy=0.9849,
    ),
    Recipe(
        name="mnist-cnn",
        net="mnist-cnn",
        dataset="mnist",
        epochs=10,
        batch_size=128,
        augmentation=None,
        peak_learning_rate=4e-3,
        warmup_epochs=1,
        adam_beta_2=0.99,
        label_smoothing=0.1,
        validation_count=5000,
        prepare=DIGIT,
        target_accuracy=0.990,
        measured_accuracy=0.99,
    ),
    Recipe(
        name="cifar10-mlp",
        net="cifar10-mlp",
        dataset="cifar10",
        epochs=20,
        batch_size=1000,
        augmentation=NOTEBOOK_AUGMENTATION,
        peak_learning_rate=3e-3,
        warmup_epochs=1,
        adam_beta_2=0.999,
        label_smoothing=0.0,
        validation_count=5000,
        prepare=PHOTO,
        target_accuracy=0.475,
        measured_accuracy=0.4835,
    ),
    Recipe(
        name="cifar10-cnn",
        net="cifar10-cnn",
        dataset="cifar10",
        epochs=20,
        batch_size=1000,
        augmentation=NOTEBOOK_AUGMENTATION,
        peak_learning_rate=3e-3,
        warmup_epochs=1,
        adam_beta_2=0.999,
        label_smoothing=0.0,
        validation_count=5000,
        prepare=PHOTO,
        target_accuracy=0.7315,
        measured_accuracy=0.7535,
    ),
)
RECIPES = {recipe.name: recipe for recipe in _ALL}
