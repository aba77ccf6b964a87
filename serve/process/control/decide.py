"""The supervisor's part: the folder of models and clients' requests -> the files that may be live in every worker.

Enters: looks at the folder, and messages of the workers. Leaves: `Desired` to all of them, `Changed` to who asked.
Does not know: processes, how a file is loaded.
"""

import asyncio
import functools
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import chain

from serve.config import ServerConfig
from serve.errors import ConfigError, InklingError, ModelControlOff, ModelRefused, NotFound, list_some, quote
from serve.model_file.folder import ModelFile
from serve.model_file.repository import count_live
from serve.model_file.scan import find_model_files
from serve.process.control.precision import PLAIN, make_repository, may_use_cuda
from serve.process.link import Change, Changed, Desired, File, Followed, Link, Loading, Message

logger = logging.getLogger(__name__)

MOST_CRASHES = 2
"""Workers that may end while they load a file, before nobody loads these bytes any more."""

Live = Mapping[str, tuple[ModelFile, ...]]


@dataclass(slots=True, eq=False)
class _Ask:
    """A change that a client asked for, until every worker has followed."""

    change: Change
    link: Link
    decision: int
    behind: set[int]
    """Numbers of the workers that have not followed."""
    problems: list[str] = field(default_factory=list)


class Decider:
    """Owns the desired state of all workers. Used on the supervisor's event loop."""

    def __init__(self, config: ServerConfig) -> None:
        """Raises ConfigError if there is no folder of models, or no file in it."""
        find_model_files(config.models, PLAIN)
        self._config = config
        self._has_read = asyncio.Event()
        self._is_blind = False
        """Whether the last look found no folder."""
        # Not one of the loop's threads, whose end the loop would wait for: a volume in a network may hang.
        self._thread = ThreadPoolExecutor(1, "folder")
        self._repository = make_repository(config, is_on_cpu=not may_use_cuda(config.device))
        self._live: Live = {}
        self._unloaded: dict[str, tuple[int, ...]] = {}
        """By model, the versions that a client had unloaded."""
        self._decision = self._told = 0
        self._retry = ""
        self._links: dict[int, Link] = {}
        self._followed: dict[int, int] = {}
        """By worker, the last decision that it has followed."""
        self._loading: dict[int, tuple[str, int]] = {}
        """By worker, the model and version that it loads."""
        self._crashes: dict[ModelFile, int] = {}
        self._asks: list[_Ask] = []
        self._lock = asyncio.Lock()  # one look at the folder at a time
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Read the folder and, where the settings say so, look at it again and again, until cancelled."""
        try:
            await self._look(settle=False)
            self._live = self._repository.models
        except ConfigError as error:  # it is gone since the check in __init__
            logger.error("there are no models: %s", error)
        finally:
            self._has_read.set()
        while self._config.model_control == "poll":
            await asyncio.sleep(self._config.poll_s)
            async with self._lock:
                await self._look_again()

    async def join(self, number: int, link: Link) -> None:
        """Tell a worker that starts what is to be live, and from now on what changes."""
        await self._has_read.wait()
        self._links[number] = link
        link.send(self._desired())

    def leave(self, number: int, has_crashed: bool) -> None:
        """Take notice that a worker has ended, and whether that may be because of what it loaded."""
        self._links.pop(number, None)
        self._followed.pop(number, None)
        loading = self._loading.pop(number, None)
        if loading and has_crashed:
            self._note_crash(*loading)
        for ask in list(self._asks):
            if number in ask.behind:
                self._note_done(ask, number, ["a worker ended meanwhile"])

    def note(self, message: Message, number: int) -> None:
        """Take notice of a message of worker `number`."""
        if isinstance(message, Loading):
            self._loading[number] = message.model, message.version
        elif isinstance(message, Followed):
            self._note_followed(message, number)
        elif isinstance(message, Change):
            task = asyncio.create_task(self._change(message, self._links[number]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _look(self, settle: bool = True) -> None:
        look = functools.partial(self._repository.look, settle)
        for problem in await asyncio.get_running_loop().run_in_executor(self._thread, look):
            logger.warning("%s", problem)

    async def _look_again(self) -> None:
        try:
            await self._look()
        except ConfigError as error:
            if not self._is_blind:
                logger.warning("keeping the models as they are: %s", error)
            self._is_blind = True
            return
        except Exception:  # whatever it is, the next look may find the folder well
            logger.exception("keeping the models as they are: looking at the folder failed")
            return
        self._is_blind = False
        if self._repository.models != self._live:
            self._decide(self._repository.models)

    async def _change(self, change: Change, link: Link) -> None:
        async with self._lock:
            try:
                await self._apply(change)
            except InklingError as error:
                link.send(Changed(change.number, type(error).__name__, str(error)))
                return
            self._asks.append(_Ask(change, link, self._decision, set(self._links)))

    async def _apply(self, change: Change) -> None:
        """Decide what a client asked for. Raises ModelControlOff and NotFound."""
        if self._config.model_control != "explicit":
            raise ModelControlOff(
                f"models are loaded and unloaded with --model-control explicit; it is {self._config.model_control}"
            )
        if not change.loads:
            if change.model not in self._live:
                raise NotFound(f"wanted one of the models {list_some(self._live)}; got {quote(change.model)}")
            self._unload(change.model)
            return
        try:
            await self._look(settle=False)
        except ConfigError as error:  # it names the path, which is for the log
            logger.error("cannot load %s: %s", quote(change.model), error)
            raise ModelRefused("the folder of models cannot be read; the server's log says why") from error
        if not (files := self._repository.models.get(change.model)):
            known = list_some(self._repository.models)
            raise NotFound(f"wanted one of the models in the folder: {known}; got {quote(change.model)}")
        self._crashes = {file: count for file, count in self._crashes.items() if file not in files}
        self._unloaded.pop(change.model, None)
        self._decide({**self._live, change.model: files}, retry=change.model)

    def _unload(self, model: str) -> None:
        """Decide that a model is live no more, and remember the versions that may have been."""
        versions = sorted({file.version for file in self._live[model]}, reverse=True)
        self._unloaded[model] = tuple(versions[: count_live(self._config.version_policy)])
        self._decide({name: files for name, files in self._live.items() if name != model})

    def _decide(self, live: Live, retry: str = "") -> None:
        """Make this the desired state, and tell every worker."""
        changed = sorted({name for name, _ in live.items() ^ self._live.items()})
        self._live, self._retry = dict(sorted(live.items())), retry
        self._decision += 1
        logger.info("decision %d on models: changing %s", self._decision, ", ".join(changed) or retry or "nothing")
        desired = self._desired()
        for link in self._links.values():
            link.send(desired)

    def _desired(self) -> Desired:
        files = [
            File(
                file.name,
                file.version,
                str(file.path),
                file.digest,
                file.problem or self._find_problem(file),
                asdict(file.serving) if file.serving else None,
            )
            for file in chain.from_iterable(self._live.values())
        ]
        unloaded = [(name, version) for name, versions in self._unloaded.items() for version in versions]
        return Desired(self._decision, files, self._retry, unloaded)

    def _find_problem(self, file: ModelFile) -> str:
        crashes = self._crashes.get(file, 0)
        return f"{crashes} workers ended while they loaded it" if crashes >= MOST_CRASHES else ""

    def _note_followed(self, message: Followed, number: int) -> None:
        self._loading.pop(number, None)
        self._followed[number] = message.number
        if self._told < self._decision and all(self._followed.get(each) == self._decision for each in self._links):
            self._told = self._decision
            logger.info("decision %d on models: every worker follows", self._decision)
        for ask in [ask for ask in self._asks if ask.decision <= message.number and number in ask.behind]:
            refused = [each for each in message.refused if each.name == ask.change.model]
            self._note_done(ask, number, [f"version {each.version}: {each.reason}" for each in refused])

    def _note_done(self, ask: _Ask, number: int, problems: list[str]) -> None:
        """A worker has done what a client asked for, or not; answer once all have."""
        ask.behind.discard(number)
        ask.problems += problems
        if ask.behind:
            return
        self._asks.remove(ask)
        error, text = "", ""
        if ask.problems:
            error = ModelRefused.__name__
            text = f"{ask.change.model}: {'; '.join(dict.fromkeys(ask.problems))}"
        ask.link.send(Changed(ask.change.number, error, text))

    def _note_crash(self, name: str, version: int) -> None:
        """A worker ended while it loaded a version: if that happens again, nobody loads these bytes any more."""
        files = [file for file in self._live.get(name, ()) if file.version == version]
        self._crashes |= {file: self._crashes.get(file, 0) + 1 for file in files}
        if any(self._crashes[file] == MOST_CRASHES for file in files):
            logger.error("giving up %s version %d: %s", name, version, self._find_problem(files[0]))
            self._decide(self._live)
