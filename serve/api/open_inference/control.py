"""Who loads and unloads models on request.

Enters: names of models. Leaves: a changed live set, or the reason why it is not changed. Does not know: messages.
"""

from typing import Protocol

from serve.errors import ControlRefused, quote


class ModelControl(Protocol):
    """Loads and unloads models by name on request."""

    async def load(self, name: str) -> None:
        """Make a model live, or renew it. Raises NotFound, ControlRefused, ModelFileError."""

    async def unload(self, name: str) -> None:
        """Serve a model no more. Raises NotFound, ControlRefused."""


class NoControl:
    """Refuses every request to change the models."""

    async def load(self, name: str) -> None:
        """Raise ControlRefused."""
        raise ControlRefused(f"cannot load {quote(name)}: this server does not load models on request")

    async def unload(self, name: str) -> None:
        """Raise ControlRefused."""
        raise ControlRefused(f"cannot unload {quote(name)}: this server does not unload models on request")
