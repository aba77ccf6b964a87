"""The parameters of requests: which have a meaning, which are reserved, which are refused.

Enters: the parameters of a request, an input, an output, or of the repository. Leaves: values, or TensorError.
Does not know: tensors, models. A parameter that nobody has reserved is ignored, as the protocol says.
"""

import time
from collections.abc import Collection, Mapping

from serve.errors import TensorError, list_some, quote
from serve.pb import open_inference_pb2 as pb

CLASSIFICATION = "classification"
TIMEOUT = "timeout"
"""Microseconds. 0 is none."""
PRIORITY = "priority"
"""Read, and without effect: all requests of a model have the same."""
EMPTY_FINAL = "triton_enable_empty_final_response"
"""Read, and without effect: no response is empty."""

SHARED_MEMORY = "shared_memory"
TRITON = "triton_"
SEQUENCES = ("sequence_id", "sequence_start", "sequence_end")
OTHERS = ("headers", "binary_data_output")
"""Reserved by Triton for HTTP."""

Parameters = Mapping[str, pb.InferParameter]


def read_deadline_s(parameters: Parameters, deadline_s: float | None) -> float | None:
    """The deadline of a request on the clock of `time.monotonic`, from that of its call and the parameter `timeout`.

    Raises TensorError for a reserved parameter.
    """
    for name in parameters:
        if name in SEQUENCES:
            raise TensorError(f"wanted a request that belongs to no sequence, got the parameter {name}")
        if name in OTHERS or (name.startswith(TRITON) and name != EMPTY_FINAL):
            raise TensorError(f"wanted no reserved parameter, got {quote(name)}")
    if EMPTY_FINAL in parameters:
        _check_kind(parameters, EMPTY_FINAL, ("bool_param",))
    if PRIORITY in parameters:
        _read_whole(parameters, PRIORITY)
    timeout_us = _read_whole(parameters, TIMEOUT) if TIMEOUT in parameters else 0
    if not timeout_us:
        return deadline_s
    ends_s = time.monotonic() + timeout_us / 1e6
    return ends_s if deadline_s is None else min(ends_s, deadline_s)


def read_class_count(parameters: Parameters, place: str) -> int:
    """How many classes the parameters of an output ask for, or 0 if they ask for none. Raises TensorError."""
    if CLASSIFICATION not in parameters:
        return 0
    _check_kind(parameters, CLASSIFICATION, ("int64_param",), place)
    count = parameters[CLASSIFICATION].int64_param
    if count < 1:
        raise TensorError(f"{place}wanted {CLASSIFICATION} of 1 or more classes, got {count}")
    return count


def refuse_shared_memory(parameters: Parameters, place: str) -> None:
    """Raise TensorError if a tensor is said to lie in memory that client and server share."""
    for name in parameters:
        if name.startswith(SHARED_MEMORY):
            raise TensorError(f"{place}wanted the tensor in the message, got the parameter {quote(name)}")


def check_repository(name: str, parameters: Collection[str] = (), known: Collection[str] = ()) -> None:
    """Raise TensorError for a repository other than the one that there is, or for a parameter that is not known."""
    if name:
        raise TensorError(f"wanted no repository_name, for there is one repository; got {quote(name)}")
    if unknown := sorted(set(parameters) - set(known)):
        wanted = f"no parameter but {list_some(known)}" if known else "no parameter"
        given = list_some(map(quote, unknown), len(unknown))
        raise TensorError(f"wanted {wanted}, for a model's file says everything; got {given}")


def _read_whole(parameters: Parameters, name: str) -> int:
    """A number that is not negative, in either of the two fields that clients use."""
    kind = _check_kind(parameters, name, ("int64_param", "uint64_param"))
    value: int = getattr(parameters[name], kind)
    if value < 0:
        raise TensorError(f"wanted the parameter {name} to be 0 or more, got {value}")
    return value


def _check_kind(parameters: Parameters, name: str, kinds: Collection[str], place: str = "") -> str:
    """The field that a parameter's value is in. Raises TensorError for one that it does not belong into."""
    kind = parameters[name].WhichOneof("parameter_choice") or "no value"
    if kind not in kinds:
        raise TensorError(f"{place}wanted the parameter {name} as {' or '.join(kinds)}, got {kind}")
    return kind
