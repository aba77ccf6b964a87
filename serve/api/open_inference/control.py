"""Who loads and unloads models on request.

Enters: names of models. Leaves: a changed live set, or the reason why it is not changed. Does not know: messages.
"""

from typing import Protocol

from serve.errors import ModelControlOff, quote


class ModelControl(Protocol):
    """Loads and unloads models by name on request."""

    async def load(self, name: str) -> None:
        """Make a model live, or renew it. Raises NotFound, ModelControlOff, ModelRefused."""

    async def unload(self, name: str) -> None:
        """Serve a model no more. Raises NotFound, ModelControlOff."""


class NoControl:
    """Refuses every request to change the models."""

    async def load(self, name: str) -> None:
        """Raise ModelControlOff."""
        raise ModelControlOff(f"cannot load {quote(name)}: models are loaded with --model-control explicit")

    async def unload(self, name: str) -> None:
        """Raise ModelControlOff."""
        raise ModelControlOff(f"cannot unload {quote(name)}: models are unloaded with --model-control explicit")
