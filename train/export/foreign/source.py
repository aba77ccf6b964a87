"""What every trained model from elsewhere is here: a bare ONNX graph, and the model itself to compare it with.

Enters and leaves: `Source`, `Tensor`. Does not know: files, frameworks, images.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from serve.errors import ModelFileError

Array: TypeAlias = npt.NDArray[Any]
Run: TypeAlias = Callable[[Array], Mapping[str, Array]]
"""A batch as the model takes it -> its outputs by name, in the model's own runtime."""

NUMBERS = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}
"""Attributes of the operation Constant that hold numbers without a tensor, and the type of the tensor meant."""


class Unconvertible(ModelFileError):
    """A model that does not classify one image, or that says too little about itself."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or an output of a model."""

    name: str
    dtype: str
    """NumPy's name of its type; empty for what is no tensor."""
    shape: tuple[int | None, ...] | None
    """None for a side that is left open, and for a shape that is not said."""

    def __str__(self) -> str:
        sides = "of any shape" if self.shape is None else list_sides(self.shape)
        return f"{self.name} {self.dtype or 'that is no tensor'} {sides}"


@dataclass(frozen=True)
class Source:
    """A trained model."""

    kind: str
    """What it is, in words, for people and the metadata."""
    graph: onnx.ModelProto
    """Its graph, with `images` as the only input, and at least `outputs`."""
    images: Tensor
    outputs: tuple[Tensor, ...]
    run: Run
    parameters: int
    packages: tuple[str, ...]
    """The Python packages that read it, whose versions go into the metadata."""
    notes: tuple[str, ...] = ()
    """What was done on the way, a sentence each."""


def list_sides(shape: tuple[int | None, ...]) -> str:
    """A shape as [N, 3, 224, 224]; ? stands for a side that is left open."""
    if not shape:
        return "[]"
    first = "N" if shape[0] is None else shape[0]
    return f"[{', '.join(map(str, (first, *('?' if side is None else side for side in shape[1:]))))}]"


def describe_value(value: onnx.ValueInfoProto) -> Tensor:
    """An input or output of a graph."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return Tensor(value.name, "", None)
    shape = tuple(side.dim_value if side.HasField("dim_value") else None for side in kind.shape.dim)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)).name
    return Tensor(value.name, dtype, shape if kind.HasField("shape") else None)


def read_constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The tensor of an operation Constant, whichever attribute holds it; None of others, and without numbers."""
    if node.op_type != "Constant":
        return None
    for attribute in node.attribute:
        if attribute.HasField("t"):
            return attribute.t
        if attribute.name in NUMBERS and not attribute.ref_attr_name:  # a function's may be said by its caller
            values = np.array(onnx.helper.get_attribute_value(attribute), NUMBERS[attribute.name])
            return onnx.numpy_helper.from_array(values)
    return None


def count_parameters(model: onnx.ModelProto) -> int:
    """The numbers in a graph's float weights of more than one."""
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    sizes = [int(np.prod(each.dims)) for each in model.graph.initializer if each.data_type in floats]
    return min(sum(size for size in sizes if size > 1), 2**31 - 1)
