"""What a model says about one image: from the outputs of a run to answers, and from answers to the stages of a trace.

Enters: the outputs of a net for a batch; answers and when their images came. Leaves: the values of each answer; stages.
Does not know: gRPC, messages, how batches are formed.
"""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np

from serve.images.reader import Prepared
from serve.inference.engine import Outputs
from serve.model_file.familiarity import FAMILIARITY
from serve.model_file.spec import OUTPUT
from serve.telemetry.tracing import Stage


class Answer(NamedTuple):
    """What the model says about one image, and where the time went. A tuple: it is made for every image."""

    probabilities: list[float]
    """By class index; they sum to 1."""
    ranking: list[int]
    """Class indices, most probable first."""
    image: Prepared
    queue_us: int
    inference_us: int
    batch_size: int
    run_ns: int
    """When the run of its batch began, on the clock of `time.perf_counter_ns`."""
    familiarity: float | None = None
    """The share of held-out images that look less typical; None if the file has no such output."""


def list_rows(outputs: Outputs) -> Iterator[tuple[list[float], list[int], bool, float | None, bool]]:
    """For each image: probabilities, ranking, whether they are finite, familiarity, and whether it is a share.

    As Python lists at once: one conversion a batch, not one a number.
    """
    probabilities, shares = outputs[OUTPUT], outputs.get(FAMILIARITY)
    rankings = (-probabilities).argsort(axis=1, kind="stable").tolist()
    is_finite = np.asarray(np.isfinite(probabilities).all(axis=1)).tolist()
    if shares is None:
        return zip(probabilities.tolist(), rankings, is_finite, repeat(None), repeat(True))  # endless
    are_shares = ((shares >= 0) & (shares <= 1)).tolist()
    return zip(probabilities.tolist(), rankings, is_finite, shares.tolist(), are_shares, strict=True)


def list_stages(
    came_ns: Sequence[int], answers: Sequence[Answer | Exception], since_ns: int, ready_ns: int
) -> Iterator[Stage]:
    """Large images are decoded first, until `ready_ns`. Then each batch is waited for, read and run.

    `came_ns` is when each image came, which its queue time counts from.
    """
    if ready_ns > since_ns:
        yield Stage("decode", since_ns, ready_ns)
    seen = set()
    for image_ns, answer in zip(came_ns, answers, strict=True):
        if isinstance(answer, Answer) and answer.run_ns not in seen:
            seen.add(answer.run_ns)
            begun_ns = image_ns + 1000 * answer.queue_us
            yield Stage("queue", ready_ns, begun_ns)
            yield Stage("decode", begun_ns, answer.run_ns)
            yield Stage("run", answer.run_ns, answer.run_ns + 1000 * answer.inference_us)
