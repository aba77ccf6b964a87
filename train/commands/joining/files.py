"""Paths of model files -> their graphs and facts, of which two can be joined.

Enters: paths of two files, or the folder of a cascade. Leaves: graphs of ONNX with a `ModelSpec` each; or
ModelFileError, which says what differs. Does not know: flags, datasets, how graphs are joined.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from serve.errors import ModelFileError
from serve.model_file.spec import ModelSpec

if TYPE_CHECKING:
    import onnx

QUESTION = ("dataset", "labels", "input", "prepare")
"""Facts that are the same in files that answer the same question about the same images."""


def read_graph(path: Path, *, joined: bool = False) -> tuple["onnx.ModelProto", ModelSpec]:
    """The graph and the facts of a file of one net, or of a cascade. Raises ModelFileError, which names the file."""
    import onnx  # not above: another command's --help needs no ONNX

    from train.export.onnx_file import read_model_file
    from train.export.passes.cascade import split

    kinds = ("a file of one net", "a cascade")
    data, spec = read_model_file(path)
    graph = onnx.load_from_string(data)
    if (split(graph) is not None) != joined:
        raise ModelFileError(f"{path}: wanted {kinds[joined]}, found {kinds[not joined]}")
    return graph, spec


def read_whole(folder: Path, first: ModelSpec, second: ModelSpec) -> "onnx.ModelProto":
    """The float32 cascade of a folder. Raises ModelFileError if it was joined from others than these two nets."""
    graph, spec = read_graph(folder / "model.onnx", joined=True)
    wanted = replace(second, parameters=first.parameters + second.parameters)
    require_same(spec, wanted, (*QUESTION, "name", "parameters"))
    if bool(spec.familiarity) != bool(first.familiarity and second.familiarity):
        raise ModelFileError(f"{folder}: wanted familiarity there and from both files, or neither, got one of the two")
    return graph


def require_same(first: ModelSpec, second: ModelSpec, names: Sequence[str]) -> None:
    """Raise ModelFileError if two files differ in these facts, or in the number of images that were held out."""
    for name in names:
        got, wanted = getattr(first, name), getattr(second, name)
        if got != wanted:
            raise ModelFileError(f"wanted two files of the same {name}, got {got} and {wanted}")
    held_out = [spec.recipe.get("validation_count") for spec in (first, second)]
    if held_out[0] != held_out[1]:
        raise ModelFileError(f"wanted two files whose trainings held out the same images, got {held_out} of them")
