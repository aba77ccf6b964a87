"""A model file, loaded into ONNX Runtime and proven: uint8 [N, H, W, C] -> named outputs.

Enters: the path of a model.onnx and a device. Leaves: an `Engine` that passed its file's own self-test.
Does not know: image files, batches of many callers, gRPC, names and versions of folders.
"""

import ctypes
import os
from pathlib import Path

# Before the import: ONNX Runtime's Linux wheels otherwise write a device id and send events (onnxruntime#27379).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from serve.errors import ConfigError, InvalidMetadata, ModelFileError, SelfTestFailed
from serve.model_file import ModelSpec, check_seal, from_metadata, self_test_images

INPUT = "images"
OUTPUT = "probabilities"

Outputs = dict[str, npt.NDArray[np.float32]]


class Engine:
    """One loaded model. `run` may be called from any thread; it releases the GIL while it computes."""

    def __init__(self, spec: ModelSpec, session: ort.InferenceSession, device: str) -> None:
        self.spec = spec
        self.device = device
        self._session = session
        self._output_names = [output.name for output in session.get_outputs()]

    def run(self, images: npt.NDArray[np.uint8]) -> Outputs:
        """Run uint8 [N, H, W, C]; `probabilities` is float32 [N, K]."""
        return dict(zip(self._output_names, self._session.run(None, {INPUT: images}), strict=True))


def load(path: Path, device: str, threads: int) -> Engine:
    """Load, check and self-test a model file on "cpu" or "cuda:<id>".

    Raises CorruptModelFile, InvalidMetadata, SelfTestFailed, and ModelFileError where ONNX Runtime refuses it.
    """
    data = path.read_bytes()
    check_seal(data)
    try:
        session = ort.InferenceSession(data, _session_options(threads, device), providers=_providers(device))
    except Exception as error:  # ONNX Runtime raises a class of its own per fault, without a public root
        raise ModelFileError(f"ONNX Runtime cannot load it: {str(error).splitlines()[0]}") from error
    spec = from_metadata(session.get_modelmeta().custom_metadata_map)
    _check_signature(session, spec)
    engine = Engine(spec, session, device)
    _check_self_test(engine)
    return engine


def choose_device(wanted: str, device_id: int) -> tuple[str, str]:
    """The device to run on, and why where it is not the best one wanted: `("cpu", "...")`.

    `wanted` is "auto", "cpu" or "cuda". Raises ConfigError where CUDA was asked for and cannot be had.
    """
    if wanted == "cpu":
        return "cpu", ""
    problem = _cuda_problem(device_id)
    if not problem:
        return f"cuda:{device_id}", ""
    if wanted == "cuda":
        raise ConfigError(f"--device cuda: {problem}")
    return "cpu", problem


def _cuda_problem(device_id: int) -> str:
    """Why CUDA cannot be had here, or nothing: the build, the driver, the device, then the libraries."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return "this onnxruntime is a build without CUDA; install the extra [gpu] instead of [cpu]"
    devices = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return f"no NVIDIA driver: {error}"
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(devices)) != 0:
        return "the NVIDIA driver is installed and does not start"
    if device_id >= devices.value:
        return f"wanted device {device_id}, the driver has {devices.value}"
    ort.preload_dlls()
    try:
        ctypes.CDLL(str(Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"))
    except OSError as error:
        return f"a CUDA library is missing: {error}"
    return ""


def _check_signature(session: ort.InferenceSession, spec: ModelSpec) -> None:
    inputs = [(node.name, node.type, *node.shape[1:]) for node in session.get_inputs()]
    wanted = (INPUT, "tensor(uint8)", *spec.input.shape)
    if inputs != [wanted]:
        raise InvalidMetadata(f"wanted the one input {wanted}, the graph has {inputs}")
    outputs = {node.name: (node.type, *node.shape[1:]) for node in session.get_outputs()}
    if outputs.get(OUTPUT) != ("tensor(float)", spec.class_count):
        raise InvalidMetadata(f"wanted an output {OUTPUT} float [N, {spec.class_count}], the graph has {outputs}")


def _check_self_test(engine: Engine) -> None:
    test = engine.spec.self_test
    images = self_test_images(test.seed, len(test.probabilities), engine.spec.input.shape)
    difference = float(np.abs(engine.run(images)[OUTPUT] - np.array(test.probabilities)).max())
    if not difference <= test.tolerance:  # also where it is not a number
        raise SelfTestFailed(
            f"wanted the self-test's probabilities within {test.tolerance:g}, got a difference of {difference:g} "
            f"on {engine.device} in {engine.spec.precision}"
        )


def _providers(device: str) -> list[str | tuple[str, dict[str, str]]]:
    if device == "cpu":
        return ["CPUExecutionProvider"]
    # HEURISTIC: an exhaustive search costs hundreds of milliseconds for every new batch size.
    options = {"device_id": device.removeprefix("cuda:"), "cudnn_conv_algo_search": "HEURISTIC"}
    return [("CUDAExecutionProvider", options)]


def _session_options(threads: int, device: str) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a spinning thread burns a shared core
    if device != "cpu":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")  # the fallback is silent otherwise
    options.log_severity_level = 3
    return options
