"""A model file -> a live runner: loaded, self-tested and warmed up in a thread, then swapped into the registry.

Enters: a folder of models. Leaves: runners in the registry, and refusals with their reasons.
Does not know: gRPC, what decides that a file is to be loaded.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from serve.errors import ModelFileError, NoModelLoaded
from serve.images.pool import DecodePool
from serve.inference import engine
from serve.inference.registry import Refusal, Registry
from serve.inference.runner import Runner, RunnerLimits
from serve.machine.cpu_policy import CpuPolicy
from serve.machine.watchdog import Watchdog
from serve.model_file.folder import PLAIN_NAME, ModelFile, find_model_files, find_unreadable
from serve.telemetry.counts import LOADED, REFUSED, Counts
from serve.telemetry.logs import one_line

logger = logging.getLogger(__name__)


class Loader:
    """Loads files and makes them live. Made on the event loop that serves them."""

    def __init__(
        self,
        registry: Registry,
        placement: engine.Placement,
        *,
        limits: RunnerLimits,
        cpu: CpuPolicy,
        pool: DecodePool,
        watchdog: Watchdog,
        describe: Callable[[Runner], object],
        on_loading: Callable[[ModelFile], None] = lambda file: None,
        counts: Counts | None = None,
    ) -> None:
        """`describe` is tried on each runner before it goes live, so that one odd file costs no answer about others.

        `on_loading` is told of each file before it is loaded.
        """
        self._registry = registry
        self._placement = placement
        self._limits = limits
        self._cpu = cpu
        self._pool = pool
        self._watchdog = watchdog
        self._check_description = describe
        self._on_loading = on_loading
        self._counts = counts or Counts()
        self._thread = ThreadPoolExecutor(1, "loader")

    async def load_folder(self, folder: Path, precision: str) -> None:
        """Load every file under a folder that can be loaded; a bad one costs no other.

        If a file in another precision is bad, the model.onnx beside it is loaded. Raises ConfigError if
        there is none, NoModelLoaded if none can be loaded.
        """
        for place in find_unreadable(folder):
            logger.warning("cannot read %s: %s", one_line(str(place.path)), place.reason)
        for file in find_model_files(folder, precision):
            await self._load_or_refuse(file)
        if not self._registry.names:
            raise NoModelLoaded(f"--models: every model file under {folder} was refused; the reasons are above")

    async def load(self, file: ModelFile) -> None:
        """Make one file live; what it replaces answers what it has accepted, and is closed.

        Raises ModelFileError and OSError, and then changes nothing.
        """
        try:
            await self._load(file)
        except Exception:
            self._counts.note_load(file.name, REFUSED)
            raise
        self._counts.note_load(file.name, LOADED)

    async def _load(self, file: ModelFile) -> None:
        if not file.name.isprintable():
            raise ModelFileError("wanted a folder whose name is printable text")
        self._on_loading(file)
        loaded = await asyncio.get_running_loop().run_in_executor(self._thread, self._load_engine, file.path)
        runner = Runner(
            file.name,
            file.version,
            loaded,
            limits=self._limits,
            cpu=self._cpu,
            pool=self._pool,
            counts=self._counts.of_model(file.name, str(file.version)),
        )
        try:
            self._check_description(runner)
        except Exception as error:  # texts and numbers that no message can hold, in ways that nobody foresaw
            await runner.close()
            if isinstance(error, ModelFileError):
                raise
            raise ModelFileError(f"its metadata cannot be described: {type(error).__name__}") from error
        self._counts.declare_model(runner.name)
        if runner.spec.name != file.name:
            logger.warning("%s version %s is a file of the model %a", file.name, file.version, runner.spec.name)
        if replaced := self._registry.put(runner):
            await replaced.close()

    async def _load_or_refuse(self, file: ModelFile) -> None:
        plain = replace(file, path=file.path.with_name(PLAIN_NAME))
        for candidate in dict.fromkeys((file, plain)):
            try:
                await self.load(candidate)
                return
            except Exception as error:  # a bad file costs no other, in whatever way it is bad
                which = "" if candidate == plain else f"{candidate.path.name}: "
                name, path = one_line(file.name), one_line(str(candidate.path))
                logger.error("refused %s version %s: %s (%s)", name, file.version, _explain(error), path)
                self._registry.refuse(Refusal(candidate, one_line(f"{which}{_describe(error)}")))

    def _load_engine(self, path: Path) -> engine.Engine:
        loaded = engine.load(path, self._placement, self._watchdog)
        loaded.warm_up()
        return loaded


def _describe(error: Exception) -> str:
    """What a client may know of a refusal: the system's own sentence names the path, which is for the log."""
    if isinstance(error, ModelFileError):
        return str(error)
    if isinstance(error, OSError):
        return error.strerror or "the file cannot be read"
    return f"it cannot be loaded: {type(error).__name__}"


def _explain(error: Exception) -> str:
    """What the log says of a refusal: with the cause, on one line."""
    return one_line(f"{error} ({error.__cause__})" if error.__cause__ else str(error) or type(error).__name__)
