"""The name, version and parameters of a policy -> the function that prepares images for one model.

Enters: `prepare` and `input` of a model's file. Leaves: a `Policy`. Does not know: image files.
Training prepares its images with the same policy, so a model gets requests like its training data.
"""

from collections.abc import Callable

from serve.errors import UnknownPolicy, quote_value
from serve.images.pixels import Policy
from serve.images.policies.digit_1 import digit_1
from serve.images.policies.digit_2.policy import digit_2
from serve.images.policies.photo_1 import photo_1
from serve.images.policies.photo_2 import photo_2
from serve.images.policies.photo_3 import make_photo_3
from serve.model_file.spec import InputSpec, PrepareSpec

POLICIES: dict[tuple[str, int, str], Callable[..., Policy]] = {
    ("digit", 1, "grey"): digit_1,
    ("digit", 2, "grey"): digit_2,
    ("photo", 1, "rgb"): photo_1,
    ("photo", 2, "rgb"): photo_2,
    ("photo", 3, "grey"): make_photo_3("L"),
    ("photo", 3, "rgb"): make_photo_3("RGB"),
}
"""Keys: the name, the version, and the input's colour."""


def find_policy(prepare: PrepareSpec, target: InputSpec) -> Policy:
    """The policy that a model's file names, for its input. Raises UnknownPolicy."""
    height, width, _ = target.shape
    make = POLICIES.get((prepare.policy, prepare.version, target.colour))
    try:
        if make is not None:
            return make(width, height, **prepare.parameters)
    except TypeError:
        pass  # a parameter that the policy does not have, or a wrong value
    parameters = (f"{name}={quote_value(value)}" for name, value in prepare.parameters.items())
    raise UnknownPolicy(
        f"wanted one of the policies digit/1 and digit/2 (grey; box=1 to {min(width, height)}), photo/1 (rgb), "
        "photo/2 (rgb; margins='peel', 'frame' or 'keep') and photo/3 (grey or rgb; resize, crop, interpolation, "
        f"antialias), got {prepare.policy}/{prepare.version} "
        f"({'; '.join([target.colour, *parameters])})"
    )
