"""A model file, loaded into ONNX Runtime and proven: uint8 [N, H, W, C] -> named outputs.

Enters: the path of a model.onnx and a `Placement`. Leaves: an `Engine` that passed its file's own self-test.
Does not know: image files, batches of many callers, gRPC, names and versions of folders.
"""

import re
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from serve.errors import ModelFileError, SelfTestFailed
from serve.inference.device import ONLY_FATAL, Placement, open_session
from serve.machine.memory import as_file, measure_resident_bytes, return_free_memory
from serve.machine.scheduling import lower_thread_priority
from serve.machine.watchdog import UNWATCHED, Watchdog
from serve.model_file.familiarity import FAMILIARITY
from serve.model_file.signature import check_signature
from serve.model_file.spec import INPUT, OUTPUT, ModelSpec, from_metadata, self_test_images
from serve.model_file.whole import read_model_bytes
from serve.telemetry.logs import one_line

LONGEST_RUN_S = 0.1
"""CPU seconds that a batch should take at most: requests wait meanwhile, and a slow net gains nothing by more."""
SLOW_BATCH_S = LONGEST_RUN_S / 4
"""CPU seconds. A batch whose images take longer one by one is slow, however much of that a batch saves."""

LARGEST_BATCH_BYTES = 2**28
"""Bytes that a batch on the CPU should take at most beside the weights. Larger ones gain no speed."""
WARM_UP_SEED, NOISE_SHAPE = 2, (128, 128, 3)
"""Of the noise that runs are measured with; a larger input repeats it, for it is slow to make."""
LARGE_INPUT_PIXELS = 128 * 128
"""Pixels of an input from which on the memory of a run is measured; smaller ones take too little to matter."""

_PLACE = re.compile(r"[\w.]*[/\\][\w.]|\.(?:cc|h|hpp|cpp|cu)\b")
"""In a word that names a place on a disk or in a source file."""

Outputs = dict[str, npt.NDArray[np.float32]]


class Engine:
    """One loaded model. `run` may be called from any thread; it releases the GIL while it computes."""

    def __init__(
        self,
        spec: ModelSpec,
        session: ort.InferenceSession,
        placement: Placement,
        watchdog: Watchdog = UNWATCHED,
    ) -> None:
        self._watchdog = watchdog
        self.spec = spec
        self.placement = placement
        self.max_batch = placement.max_batch
        """Most images in one run: what `placement` allows; on the CPU less if it takes long, or much memory."""
        self.one_image_s = self.full_batch_s = float("inf")
        """CPU seconds of a run of one image, and of `max_batch`, in one thread of it; `warm_up` measures them."""
        self._session = session
        self._output_names = [output.name for output in session.get_outputs()]
        self._may_spread = placement.device == "cpu" and placement.most_threads > placement.threads
        self._cpu_s_of: dict[int, float] = {}
        """CPU seconds of each of the session's own threads, as of the end of its last run."""
        self._run_s = 0.0
        """CPU seconds of the last run in such a thread."""

    def run(self, images: npt.NDArray[np.uint8], options: ort.RunOptions | None = None, spread: bool = True) -> Outputs:
        """Run uint8 [N, H, W, C], N at most `max_batch`; `probabilities` is float32 [N, K].

        `spread`: use `most_threads` on the CPU, for cores that are idle. On busy cores a run over fewer threads takes
        less time, for threads that share a run wait for each other. A run that outlasts the watchdog is broken off, and
        fails as any other run that ONNX Runtime cannot finish.
        """
        options = options or ort.RunOptions()
        options.log_severity_level = ONLY_FATAL
        count, on_cpu = len(images), self.placement.device == "cpu"
        if not on_cpu:
            images = _pad(images, next(size for size in self.placement.batch_sizes if size >= count))
        run = self._session.run if spread or not self._may_spread else self._run_on_one
        with self._watchdog.watch(lambda: setattr(options, "terminate", True)):
            outputs = run(self._output_names, {INPUT: images}, options)
        if not on_cpu:
            outputs = [output[:count] for output in outputs]
        return dict(zip(self._output_names, outputs, strict=True))

    def _run_on_one(
        self, names: list[str], feed: dict[str, npt.NDArray[np.uint8]], options: ort.RunOptions | None
    ) -> list[npt.NDArray[np.float32]]:
        """Run in one of the session's own threads, where ONNX Runtime does not divide the work any further."""
        done: SimpleQueue[tuple[list[npt.NDArray[np.float32]], str, int, float]] = SimpleQueue()
        self._session.run_async(names, feed, _hand_over, done, options)
        outputs, problem, thread, cpu_s = done.get()
        self._run_s = cpu_s - self._cpu_s_of.get(thread, 0.0)
        self._cpu_s_of[thread] = cpu_s
        if problem:
            raise RuntimeError(problem)
        return outputs

    def warm_up(self) -> None:
        """Run, on CUDA every batch size, so that no request pays for memory and algorithms; measure runs.

        On the CPU the self-test was the first run. A batch of a slow net is not run: one image tells its time.
        Raises ModelFileError if a run breaks off.
        """
        on_cpu = self.placement.device == "cpu"
        last = _shrinking() if on_cpu else None
        for size in () if on_cpu else self.placement.batch_sizes:
            self._measure(size)
        self.one_image_s = self._measure(1, last)
        if on_cpu and self.spec.input.shape[0] * self.spec.input.shape[1] > LARGE_INPUT_PIXELS:
            grown = min(self._measure_bytes(last) for _ in range(2))  # other models may run meanwhile
            self.max_batch = min(self.max_batch, max(1, LARGEST_BATCH_BYTES // max(1, grown)))
        if on_cpu and self.max_batch * self.one_image_s > SLOW_BATCH_S:
            self.max_batch = min(self.max_batch, max(1, int(LONGEST_RUN_S / self.one_image_s)))
            self.full_batch_s = self.max_batch * self.one_image_s
        else:
            # The first run takes fresh memory, the second gives it back.
            self.full_batch_s = min(self._measure(self.max_batch, options) for options in (None, last))

    def close(self) -> None:
        """Let go of the session and its memory. No run may follow."""
        del self._session

    def _measure_bytes(self, shrinking: ort.RunOptions | None) -> int:
        """The bytes that a run of one image takes."""
        self._measure(1, shrinking)
        return_free_memory()  # glibc may keep what the arena freed, and the run would take that
        before = measure_resident_bytes()
        self._measure(1)
        return measure_resident_bytes() - before

    def _measure(self, size: int, options: ort.RunOptions | None = None) -> float:
        # Not the clock's time, for other processes warm up at the same time. Nor the time of this process, which may
        # answer calls meanwhile: the time of the thread that runs.
        # Noise, for a net that looks at some images again is unsure about it, so the longest runs are measured.
        images = np.resize(self_test_images(WARM_UP_SEED, 1, NOISE_SHAPE), (size, *self.spec.input.shape))
        start_s = time.thread_time()
        try:
            self.run(images, options, spread=False)
        except Exception as error:  # as in load()
            kind = f"a run of {size} images on {self.placement.device}"
            raise ModelFileError(f"{kind} broke off while warming up: {_name_fault(error)}") from error
        return self._run_s if self._may_spread else time.thread_time() - start_s


def _hand_over(outputs: list[npt.NDArray[np.float32]], done: SimpleQueue[Any], problem: str) -> None:
    """Called in the session's own thread, which runs behind the event loop as the batcher's does."""
    lower_thread_priority()
    done.put((outputs, problem, threading.get_ident(), time.thread_time()))


def _shrinking() -> ort.RunOptions:
    """Options of a run on the CPU that leaves the arena small: most models of a server wait for requests."""
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _pad(images: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    padded = np.zeros((size, *images.shape[1:]), np.uint8)
    padded[: len(images)] = images
    return padded


def load(path: Path, placement: Placement, watchdog: Watchdog = UNWATCHED, digest: str = "") -> Engine:
    """Load, check and self-test a model file. With `digest`, bytes that have another SHA-256 are refused.

    Raises CorruptModelFile, InvalidMetadata, SelfTestFailed, and ModelFileError if ONNX Runtime refuses it.
    """
    model = as_file(read_model_bytes(path, digest))  # bytes would stay in memory beside the weights
    try:
        with model as place:
            session = open_session(place, placement)
        meta = session.get_modelmeta()
        metadata, _ = meta.custom_metadata_map, meta.graph_name  # a text of ONNX is UTF-8; read, it raises if not
        inputs, outputs = (list(map(_describe, nodes)) for nodes in (session.get_inputs(), session.get_outputs()))
    except Exception as error:  # ONNX Runtime raises a class per fault, without a public base class
        raise ModelFileError(f"ONNX Runtime cannot load it: {_name_fault(error)}") from error
    if placement.device != "cpu" and "CUDAExecutionProvider" not in session.get_providers():
        raise ModelFileError(f"wanted {placement.device}, ONNX Runtime took {', '.join(session.get_providers())}")
    spec = from_metadata(metadata)
    check_signature(inputs, outputs, spec)
    engine = Engine(spec, session, placement, watchdog)
    _check_self_test(engine)
    return engine


def _describe(node: ort.NodeArg) -> str:
    """Name, type and shape, with N for whatever the graph leaves open: a batch must be able to grow."""
    sides = (str(side) if isinstance(side, int) else "N" for side in node.shape)
    return f"{node.name} {node.type} [{', '.join(sides)}]"


def _check_self_test(engine: Engine) -> None:
    test = engine.spec.self_test
    images = self_test_images(test.seed, len(test.probabilities), engine.spec.input.shape)
    size = engine.placement.max_batch
    try:
        # Not spread: other workers do the same at this moment.
        runs = [engine.run(images[at : at + size], spread=False) for at in range(0, len(images), size)]
        differences = [_measure_difference(runs, OUTPUT, test.probabilities)]
        if test.familiarity is not None:
            differences.append(_measure_difference(runs, FAMILIARITY, test.familiarity))
        difference = float(np.max(differences))
    except Exception as error:  # as in load()
        raise SelfTestFailed(f"the self-test broke off on {engine.placement.device}: {_name_fault(error)}") from error
    if not difference <= test.tolerance:  # also where it is not a number
        raise SelfTestFailed(
            f"wanted the self-test's probabilities within {test.tolerance:g}, got a difference of {difference:g} "
            f"on {engine.placement.device} in {engine.spec.precision}"
        )


def _measure_difference(runs: list[Outputs], name: str, wanted: npt.ArrayLike) -> float:
    """The largest difference of an output, which is not a number if one of its values is none."""
    found = np.concatenate([outputs[name] for outputs in runs])
    return float(np.abs(found - np.asarray(wanted)).max())


def _name_fault(error: Exception) -> str:
    """What any client may know of a fault: its first line without the paths and source files in ONNX Runtime's texts.

    These begin with `[ONNXRuntimeError] : 1 : FAIL : `. The log has all of it.
    """
    line = f"{type(error).__name__}: {error}".splitlines()[0]
    return one_line(" ".join(word for word in line.split() if not _PLACE.search(word)))
