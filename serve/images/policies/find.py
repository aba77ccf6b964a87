"""The name, version and parameters of a policy -> the function that prepares images for one model.

Enters: what a model's file says under `prepare` and `input`. Leaves: a `Policy`. Does not know: image files.
Training data goes through the same policy as a request, so a model serves what it was trained on.
"""

from collections.abc import Callable

from serve.errors import UnknownPolicy
from serve.images.pixels import Policy
from serve.images.policies.digit_1 import digit_1
from serve.images.policies.photo_1 import photo_1
from serve.model_file.spec import InputSpec, PrepareSpec

_POLICIES: dict[tuple[str, int, str], Callable[..., Policy]] = {
    ("digit", 1, "grey"): digit_1,
    ("photo", 1, "rgb"): photo_1,
}
"""By name, version and the input's colour."""


def find_policy(prepare: PrepareSpec, target: InputSpec) -> Policy:
    """The policy of a name, version and parameters. Raises UnknownPolicy."""
    height, width, _ = target.shape
    make = _POLICIES.get((prepare.policy, prepare.version, target.colour))
    try:
        if make is not None:
            return make(width, height, **prepare.parameters)
    except TypeError:
        pass  # parameters that the policy does not have or take: as unknown as another name
    raise UnknownPolicy(
        f"wanted one of the policies digit/1 (grey; box=1 to {min(width, height)}) and photo/1 (rgb), "
        f"got {prepare.policy}/{prepare.version} "
        f"({'; '.join([target.colour, *(f'{name}={value!r}' for name, value in prepare.parameters.items())])})"
    )
