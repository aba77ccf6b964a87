"""Requests of the Open Inference Protocol that a server with the tiny models has to refuse, and how it refuses each.

Tests send them by the stubs of Inkling in this process, and by those of tritonclient in another.
"""

from typing import NamedTuple

from serve.pb import open_inference_pb2 as pb
from tests.serve.api.messages import (
    PIXEL_BYTES,
    SIDES,
    classes,
    make_files,
    make_pixels,
    pack,
    with_input,
    with_input_parameter,
    with_model,
    with_output,
    with_parameter,
    with_raw,
    with_shape,
    with_typed,
)

MOST_INT64 = 2**63 - 1


class Malformed(NamedTuple):
    """A request, and what its refusal says."""

    name: str
    request: pb.ModelInferRequest
    sentence: str
    """A regular expression."""
    code: str = "INVALID_ARGUMENT"


RANK = r"wanted the shape \[N, 12, 12, 3\] of UINT8, got "
FILES = r"wanted the shape \[N\] or \[N, 1\] of BYTES, got "
COUNT = r"wanted 1 to 256 images, got "
LEVELS = [0] * PIXEL_BYTES

MALFORMED = [
    Malformed("unknown model", make_pixels(with_model("nobody")), "wanted one of the models .*'nobody'", "NOT_FOUND"),
    Malformed("no model of two", make_pixels(with_model("")), "wanted one of the models .* got ''", "NOT_FOUND"),
    Malformed("unknown version", make_pixels(with_model("bands", "7")), "wanted one of the versions.*'7'", "NOT_FOUND"),
    Malformed("leading zero", make_pixels(with_model("bands", "01")), "versions of bands: 2, 1; got '01'", "NOT_FOUND"),
    Malformed("version in words", make_pixels(with_model("bands", "one")), "versions of bands.*'one'", "NOT_FOUND"),
    Malformed("no input", pb.ModelInferRequest(model_name="bands"), "the one input images, got none"),
    Malformed("unknown input", make_pixels(with_input(0, name="image")), "the one input images, got 'image'"),
    Malformed("unnamed input", make_pixels(with_input(0, name="")), "the one input images, got ''"),
    Malformed(
        "same input twice",
        make_pixels(with_input(1, name="images", datatype="UINT8")),
        "the one input images, got 'images', 'images'",
    ),
    Malformed("second input", make_pixels(with_input(1, name="mask")), "the one input images, got 'images', 'mask'"),
    Malformed("float tensor", make_pixels(with_input(0, datatype="FP32")), "datatype UINT8 or BYTES, got 'FP32'"),
    Malformed("signed tensor", make_pixels(with_input(0, datatype="INT8")), "datatype UINT8 or BYTES, got 'INT8'"),
    Malformed("small letters", make_pixels(with_input(0, datatype="uint8")), "datatype UINT8 or BYTES, got 'uint8'"),
    Malformed("no type", make_pixels(with_input(0, datatype="")), "datatype UINT8 or BYTES, got ''"),
    Malformed("no shape", make_pixels(with_shape()), RANK + r"\[\]"),
    Malformed("without a batch", make_pixels(with_shape(*SIDES)), RANK + r"\[12, 12, 3\]"),
    Malformed("five dimensions", make_pixels(with_shape(1, *SIDES, 1)), RANK + r"\[1, 12, 12, 3, 1\]"),
    Malformed("other sides", make_pixels(with_shape(1, 3, 12, 12)), RANK + r"\[1, 3, 12, 12\]"),
    Malformed("negative side", make_pixels(with_shape(1, -12, -12, 3)), RANK + r"\[1, -12, -12, 3\]"),
    Malformed(
        "product that overflows", make_pixels(with_shape(2**32, 2**32, 12, 3)), RANK + r"\[4294967296, 4294967296"
    ),
    Malformed("many dimensions", make_pixels(with_shape(*[1] * 1000)), RANK + r"\[1, .* 1000 dimensions\]"),
    Malformed("empty batch", make_pixels(with_shape(0, *SIDES), with_raw(b"")), COUNT + "0"),
    Malformed("negative batch", make_pixels(with_shape(-1, *SIDES)), COUNT + "-1"),
    Malformed("batch too large", make_pixels(count=257), COUNT + "257"),
    Malformed("batch of the most", make_pixels(with_shape(MOST_INT64, *SIDES)), COUNT + str(MOST_INT64)),
    Malformed("a byte short", make_pixels(with_raw(bytes(PIXEL_BYTES - 1))), "wanted 432 bytes .* got 431"),
    Malformed("a byte over", make_pixels(with_raw(bytes(PIXEL_BYTES + 1))), "wanted 432 bytes .* got 433"),
    Malformed("no bytes", make_pixels(with_raw(b"")), "wanted 432 bytes .* got 0"),
    Malformed("two raw entries", make_pixels(with_raw(bytes(PIXEL_BYTES), b"")), "wanted 1 entry .* got 2"),
    Malformed("no contents", make_pixels(with_raw()), "raw_input_contents or contents, got neither"),
    Malformed(
        "raw and typed",
        make_pixels(lambda request: request.inputs[0].contents.uint_contents.extend(LEVELS)),
        "raw_input_contents or contents, got both",
    ),
    Malformed(
        "raw and empty typed",
        make_pixels(lambda request: request.inputs[0].contents.SetInParent()),
        "raw_input_contents or contents, got both",
    ),
    Malformed("bytes of rank 0", make_pixels(with_input(0, datatype="BYTES"), with_shape()), FILES + r"\[\]"),
    Malformed("bytes two abreast", make_files(pack(b"x", b"y"), 1, 2), FILES + r"\[1, 2\]"),
    Malformed("bytes of three dimensions", make_files(pack(b"x"), 1, 1, 1), FILES + r"\[1, 1, 1\]"),
    Malformed("bytes of nothing", make_files(b"", 0), COUNT + "0"),
    Malformed("bytes of a negative count", make_files(b"", -3, 1), COUNT + "-3"),
    Malformed("bytes too many", make_files(pack(*[b""] * 257), 257), COUNT + "257"),
    Malformed("length cut off", make_files(b"\x01\x00"), "wanted 4 bytes with the length of element 0, got 2"),
    Malformed("length too long", make_files(b"\xff\xff\xff\xffx"), "wanted 4294967295 bytes after .* element 0, got 1"),
    Malformed("element missing", make_files(pack(b"x"), 2), "wanted 4 bytes with the length of element 1, got 0"),
    Malformed("bytes left over", make_files(pack(b"x") + b"yz"), "wanted 1 elements in 5 bytes, got 2 bytes after"),
    Malformed("element left over", make_files(pack(b"x", b"y")), "wanted 1 elements in 5 bytes, got 5 bytes after"),
    Malformed(
        "level over 255",
        with_typed("UINT8", 1, *SIDES, uint_contents=[*LEVELS[:-1], 256]),
        "levels from 0 to 255, got 256 at element 431",
    ),
    Malformed(
        "level of the most",
        with_typed("UINT8", 1, *SIDES, uint_contents=[2**32 - 1, *LEVELS[1:]]),
        "levels from 0 to 255, got 4294967295 at element 0",
    ),
    Malformed("too few levels", with_typed("UINT8", 1, *SIDES, uint_contents=[1]), "wanted 432 elements .* got 1"),
    Malformed(
        "too many levels", with_typed("UINT8", 1, *SIDES, uint_contents=[0, *LEVELS]), "wanted 432 elements .* got 433"
    ),
    Malformed(
        "levels in another field",
        with_typed("UINT8", 1, *SIDES, int_contents=LEVELS),
        "UINT8 in uint_contents, got int_contents",
    ),
    Malformed(
        "levels in two fields",
        with_typed("UINT8", 1, *SIDES, uint_contents=LEVELS, fp32_contents=[1.0]),
        "UINT8 in uint_contents, got uint_contents and fp32_contents",
    ),
    Malformed("typed and empty", with_typed("UINT8", 1, *SIDES), "UINT8 in uint_contents, got no element"),
    Malformed(
        "files in another field",
        with_typed("BYTES", 1, uint_contents=[1]),
        "BYTES in bytes_contents, got uint_contents",
    ),
    Malformed("files of another count", with_typed("BYTES", 2, bytes_contents=[b"x"]), "wanted 2 elements .* got 1"),
    Malformed("unknown output", make_pixels(with_output("scores")), "wanted outputs of probabilities; got 'scores'"),
    Malformed(
        "same output twice",
        make_pixels(with_output("probabilities"), with_output("probabilities")),
        "each output at most once, got probabilities, probabilities",
    ),
    Malformed(
        "negative class count",
        make_pixels(with_output("probabilities", classification=classes(int64_param=-1))),
        "classification of 1 or more classes, got -1",
    ),
    Malformed(
        "no class",
        make_pixels(with_output("probabilities", classification=classes(int64_param=0))),
        "classification of 1 or more classes, got 0",
    ),
    Malformed(
        "class count in words",
        make_pixels(with_output("probabilities", classification=classes(string_param="3"))),
        "classification as int64_param, got string_param",
    ),
    Malformed(
        "output in shared memory",
        make_pixels(with_output("probabilities", shared_memory_region=classes(string_param="region"))),
        "output probabilities: wanted the tensor in the message, got the parameter 'shared_memory_region'",
    ),
    Malformed(
        "input in shared memory",
        make_pixels(with_raw(), with_input_parameter("shared_memory_region", string_param="region")),
        "input images: wanted the tensor in the message, got the parameter 'shared_memory_region'",
    ),
    Malformed("sequence", make_pixels(with_parameter("sequence_id", int64_param=5)), "no sequence, got .*sequence_id"),
    Malformed(
        "start of a sequence",
        make_pixels(with_parameter("sequence_start", bool_param=True)),
        "no sequence, got the parameter sequence_start",
    ),
    Malformed(
        "headers", make_pixels(with_parameter("headers", string_param="x")), "no reserved parameter, got 'headers'"
    ),
    Malformed(
        "reserved prefix",
        make_pixels(with_parameter("triton_anything", bool_param=True)),
        "no reserved parameter, got 'triton_anything'",
    ),
    Malformed(
        "reserved of another type",
        make_pixels(with_parameter("triton_enable_empty_final_response", string_param="yes")),
        "as bool_param, got string_param",
    ),
    Malformed(
        "negative timeout", make_pixels(with_parameter("timeout", int64_param=-1)), "timeout to be 0 or more, got -1"
    ),
    Malformed(
        "timeout of another type",
        make_pixels(with_parameter("timeout", double_param=1.5)),
        "timeout as int64_param or uint64_param, got double_param",
    ),
    Malformed("priority without a value", make_pixels(with_parameter("priority")), "priority as .*, got no value"),
    Malformed("empty image", make_files(pack(b"")), "image 0: wanted the bytes of a .* file, got 0 bytes"),
    Malformed("no image", make_files(pack(b"text, no image")), "image 0: wanted a PNG.*, got text that begins"),
]
"""At least forty."""
