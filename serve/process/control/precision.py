"""Settings -> the repository of the folder, with the precision that is preferred.

Enters: a ServerConfig. Leaves: a `Repository`. Does not know: what is in a file, how it is loaded.
With `--precision auto` the supervisor decides for all workers: they get files by path.
"""

from pathlib import Path

from serve.config import ServerConfig
from serve.machine.instructions import find_fast_precision
from serve.model_file.repository import Repository, count_live
from serve.packages import UNKNOWN, find_version

PLAIN = "float32"
"""The precision without a variant: every version has its plain file."""


def make_repository(config: ServerConfig, is_on_cpu: bool) -> Repository:
    """The repository of the folder of models. On CUDA, `auto` is float32."""
    is_auto = config.precision == "auto"
    fast = find_fast_precision() if is_on_cpu else PLAIN
    return Repository(
        config.models,
        fast if is_auto else config.precision,
        count_live(config.version_policy),
        keeps_accuracy=is_auto,
    )


def may_use_cuda(device: str) -> bool:
    """Whether the device of the setting may turn out to be CUDA.

    It guesses without starting CUDA, which would cost this process its memory: a worker finds out and says so.
    """
    has_cuda = Path("/dev/nvidiactl").exists() and find_version("onnxruntime-gpu") != UNKNOWN
    return device == "cuda" or (device == "auto" and has_cuda)
