"""Model files -> live runners: loaded, self-tested and warmed up in a thread, then swapped into the registry.

Enters: the model files that may be live. Leaves: runners in the registry, and refusals with their reasons.
Does not know: gRPC, what decides which files may be live.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import groupby

from serve.errors import ModelFileError
from serve.images.pool import DecodePool
from serve.inference import device, engine
from serve.inference.registry import Refusal, Registry
from serve.inference.runner import Runner, RunnerLimits
from serve.machine.cpu_policy import CpuPolicy
from serve.machine.memory import return_thread_memory
from serve.machine.watchdog import Watchdog
from serve.model_file.folder import PLAIN_NAME, ModelFile
from serve.model_file.serving import SERVER_SETTINGS, ServingSettings
from serve.telemetry.counts import LOADED, REFUSED, Counts
from serve.telemetry.logs import one_line

logger = logging.getLogger(__name__)


class Loader:
    """Loads files and makes them live. Made on the event loop that serves them."""

    def __init__(
        self,
        registry: Registry,
        placement: device.Placement,
        *,
        limits: RunnerLimits,
        cpu: CpuPolicy,
        pool: DecodePool,
        watchdog: Watchdog,
        describe: Callable[[Runner], object],
        on_loading: Callable[[ModelFile], None] = lambda file: None,
        on_change: Callable[[], None] = lambda: None,
        counts: Counts | None = None,
    ) -> None:
        """`describe` is tried on each runner before it goes live, so that one odd file costs no answer about others.

        `on_loading` is told of each file before it is loaded; `on_change` is called when the live set has changed.
        `counts` takes the loads, and what each model does.
        """
        self._registry = registry
        self._placement = placement
        self._limits = limits
        self._cpu = cpu
        self._pool = pool
        self._watchdog = watchdog
        self._check_description = describe
        self._on_loading = on_loading
        self._on_change = on_change
        self._counts = counts or Counts()
        self._thread = ThreadPoolExecutor(1, "loader")
        self._is_closed = self._has_freed = False
        self._live: dict[tuple[str, int], tuple[str, ServingSettings | None]] = {}
        """Digest and settings of what is live, by name and version."""
        self._refused: dict[ModelFile, Refusal] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def follow(
        self, files: Sequence[ModelFile], live_versions: int, retries: Collection[str] = ()
    ) -> list[Refusal]:
        """Make the newest `live_versions` of each model live that can be loaded, and no others.

        The files of a model follow each other: the newest version first, and of each version the preferred file. A file
        that was refused is tried again if its bytes have changed, or if its model is one of `retries`. A version whose
        new file is refused goes on with the old one; in place of a new version that is refused, an old one stays live.
        Returns the refusals of versions that none of their files serves.
        """
        self._refused = {file: refusal for file, refusal in self._refused.items() if file.name not in retries}
        models = {name: list(of_model) for name, of_model in groupby(files, key=lambda file: file.name)}
        unserved: list[Refusal] = []
        for name in [*models, *(name for name in self._registry.names if name not in models)]:
            unserved += await self._follow_model(name, models.get(name, []), live_versions)
        self._refused = {file: self._refused[file] for file in files if file in self._refused}
        self._registry.refusals = tuple(self._refused.values())
        await self._wait_until_closed()
        if self._has_freed:
            self._has_freed = False
            await asyncio.get_running_loop().run_in_executor(self._thread, return_thread_memory)
        return unserved

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
        if file.problem:
            raise ModelFileError(file.problem)
        self._on_loading(file)
        loaded = await asyncio.get_running_loop().run_in_executor(self._thread, self._load_engine, file)
        counts = self._counts.of_model(file.name, str(file.version))
        runner = Runner(
            file.name,
            file.version,
            loaded,
            limits=_limit(self._limits, file),
            cpu=self._cpu,
            pool=self._pool,
            counts=counts,
        )
        try:
            self._check_description(runner)
        except Exception as error:  # texts and numbers that no message can hold, in ways that nobody foresaw
            await self._close(runner)
            if isinstance(error, ModelFileError):
                raise
            raise ModelFileError(f"its metadata cannot be described: {type(error).__name__}") from error
        if runner.spec.name != file.name:
            called = one_line(runner.spec.name)
            logger.warning(
                "%s is served as %s, and calls itself %s; is it in another model's folder?",
                file.path,
                file.name,
                called,
            )
        self._counts.declare_model(runner.name)
        self._live[file.name, file.version] = file.digest, file.serving
        self._retire(self._registry.put(runner))
        self._on_change()

    async def close(self) -> None:
        """Wait until what was replaced has been closed. A load that is under way ends by itself."""
        self._is_closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)
        await self._wait_until_closed()

    async def _follow_model(self, name: str, files: Sequence[ModelFile], live_versions: int) -> list[Refusal]:
        before = self._registry.versions(name)
        stays: set[int] = set()
        missing, unserved = 0, []
        for version, group in groupby(files, key=lambda file: file.version):
            if len(stays) == live_versions:
                break
            of_version = list(group)
            is_loaded = await self._load_first(of_version)
            if not is_loaded:
                unserved += [self._refused[file] for file in of_version]
            if is_loaded or version in before:
                stays.add(version)
            else:
                missing += 1
        others = [version for version in before if version not in stays]
        for version in others[min(missing, live_versions - len(stays)) :]:
            self._unload(name, version)
        return unserved

    def _unload(self, name: str, version: int) -> None:
        logger.debug("unloading %s version %d", name, version)
        del self._live[name, version]
        self._retire(self._registry.remove(name, version))
        self._on_change()

    async def _load_first(self, files: Sequence[ModelFile]) -> bool:
        """Make the first file of one version live that can be, unless it is: whether there is such a file."""
        for file in files:
            if file.digest and self._live.get((file.name, file.version)) == (file.digest, file.serving):
                return True
            if file not in self._refused and await self._load_or_refuse(file):
                return True
        return False

    async def _load_or_refuse(self, file: ModelFile) -> bool:
        try:
            await self.load(file)
        except Exception as error:  # a bad file costs no other, in whatever way it is bad
            which = "" if file.path.name == PLAIN_NAME else f"{file.path.name}: "
            name, path = one_line(file.name), one_line(str(file.path))
            logger.error("refused %s version %s: %s (%s)", name, file.version, _explain(error), path)
            self._has_freed = True
            self._refused[file] = Refusal(file, one_line(f"{which}{_describe(error)}"))
            return False
        return True

    def _load_engine(self, file: ModelFile) -> engine.Engine:
        serving = file.serving or SERVER_SETTINGS
        placement = replace(self._placement, max_batch=serving.max_batch or self._placement.max_batch)
        loaded = engine.load(file.path, placement, self._watchdog, file.digest)
        loaded.warm_up()
        return loaded

    def _retire(self, runner: Runner | None) -> None:
        """Close a runner that is no longer live, without waiting for it."""
        if runner:
            task = asyncio.create_task(self._close(runner))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close(self, runner: Runner) -> None:
        await runner.close()
        if not self._is_closed:  # or else the process ends
            # In the thread that loaded it, whose arena it goes back to.
            await asyncio.get_running_loop().run_in_executor(self._thread, runner.release)
            self._has_freed = True

    async def _wait_until_closed(self) -> None:
        while self._closing:
            await asyncio.wait(self._closing)


def _limit(limits: RunnerLimits, file: ModelFile) -> RunnerLimits:
    """The bounds of a model's work, with what its own file of settings says."""
    own = asdict(file.serving or SERVER_SETTINGS)
    names = ("max_pending", "max_pending_bytes", "max_queue_delay_us")
    return replace(limits, **{name: own[name] for name in names if own[name] is not None})


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
