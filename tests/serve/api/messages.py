"""Requests of the Open Inference Protocol that a server with the tiny models answers, and changes of them."""

from collections.abc import Callable

from serve.pb import open_inference_pb2 as pb

SIDES = (12, 12, 3)
PIXEL_BYTES = 12 * 12 * 3

Change = Callable[[pb.ModelInferRequest], object]


def make_pixels(*changes: Change, count: int = 1) -> pb.ModelInferRequest:
    """A good request with black images as a tensor, and then what changes about it."""
    request = pb.ModelInferRequest(model_name="bands", raw_input_contents=[bytes(count * PIXEL_BYTES)])
    request.inputs.add(name="images", datatype="UINT8", shape=(count, *SIDES))
    for change in changes:
        change(request)
    return request


def make_files(raw: bytes, *shape: int) -> pb.ModelInferRequest:
    """A request with image files as raw contents."""
    request = pb.ModelInferRequest(model_name="bands", raw_input_contents=[raw])
    request.inputs.add(name="images", datatype="BYTES", shape=shape or (1,))
    return request


def pack(*files: bytes) -> bytes:
    """Elements of a raw tensor of BYTES."""
    return b"".join(len(file).to_bytes(4, "little") + file for file in files)


def with_shape(*shape: int) -> Change:
    return lambda request: (
        request.inputs[0].ClearField("shape"),
        request.inputs[0].shape.extend(shape),
    )


def with_raw(*entries: bytes) -> Change:
    return lambda request: (request.ClearField("raw_input_contents"), request.raw_input_contents.extend(entries))


def with_typed(datatype: str, *shape: int, **contents: object) -> pb.ModelInferRequest:
    """A request with typed contents."""
    request = pb.ModelInferRequest(model_name="bands")
    request.inputs.add(
        name="images",
        datatype=datatype,
        shape=shape,
        contents=pb.InferTensorContents(**contents),  # type: ignore[arg-type]  # any field
    )
    return request


def with_input(index: int, **fields: str) -> Change:
    def change(request: pb.ModelInferRequest) -> None:
        tensor = request.inputs[index] if index < len(request.inputs) else request.inputs.add()
        for name, value in fields.items():
            setattr(tensor, name, value)

    return change


def with_model(name: str, version: str = "") -> Change:
    def change(request: pb.ModelInferRequest) -> None:
        request.model_name, request.model_version = name, version

    return change


def with_parameter(name: str, **value: object) -> Change:
    return lambda request: request.parameters[name].MergeFrom(pb.InferParameter(**value))  # type: ignore[arg-type]


def with_input_parameter(name: str, **value: object) -> Change:
    return lambda request: (
        request.inputs[0]
        .parameters[name]
        .MergeFrom(
            pb.InferParameter(**value)  # type: ignore[arg-type]
        )
    )


def with_output(name: str, **parameters: pb.InferParameter) -> Change:
    return lambda request: request.outputs.add(name=name, parameters=parameters)


def classes(**value: object) -> pb.InferParameter:
    return pb.InferParameter(**value)  # type: ignore[arg-type]
