"""Model files -> the models that are served, and those that are refused.

Enters: a folder, and a function that loads one file. Leaves: a `Repository`. Does not know: how a file is run, gRPC.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from serve.errors import ConfigError, ModelFileError
from serve.inference.registry import Refusal, Repository
from serve.inference.runner import Classifier
from serve.model_file.folder import PLAIN_NAME, ModelFile, find_model_files

logger = logging.getLogger(__name__)


def load_repository(folder: Path, precision: str, load: Callable[[ModelFile], Classifier]) -> Repository:
    """Load what can be loaded; a bad file costs nobody but itself. Raises ConfigError where none can.

    Where a file in another precision is bad, the model.onnx beside it serves.
    """
    classifiers, refusals = [], []
    for file in find_model_files(folder, precision):
        plain = replace(file, path=file.path.with_name(PLAIN_NAME))
        for candidate in dict.fromkeys((file, plain)):
            try:
                classifiers.append(load(candidate))
                break
            except (ModelFileError, OSError) as error:
                which = "" if candidate == plain else f"{candidate.path.name}: "
                logger.error("refused %s version %s: %s%s", file.name, file.version, which, error)
                refusals.append(Refusal(candidate, f"{which}{_reason(error)}"))
    if not classifiers:
        raise ConfigError(f"--models: every model file under {folder} was refused; the reasons are above")
    return Repository(classifiers, refusals)


def _reason(error: ModelFileError | OSError) -> str:
    """What any caller may know: the system's own sentence has the path, which is for the log."""
    return (error.strerror or "the file cannot be read") if isinstance(error, OSError) else str(error)
