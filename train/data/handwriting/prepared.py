"""MNIST's strokes -> the same strokes as a model gets them from people's pictures: drawn on paper, then prepared.

Enters: strokes uint8 [N, 28, 28, 1], the `PrepareSpec` of a recipe, a seed. Leaves: uint8 of the same shape.
Does not know: labels, nets. A picture takes some milliseconds, so all cores draw.
"""

import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import numpy.typing as npt

from serve.images.policies.find import find_policy
from serve.model_file.spec import InputSpec, PrepareSpec
from train.data.handwriting.people import ROWS, draw_row

Strokes = npt.NDArray[np.uint8]

_AT_ONCE = 500
"""Images of one task. Each task has its own generator, so the number of cores changes nothing."""


def draw_as_people(strokes: Strokes, prepare: PrepareSpec, *, seed: int) -> Strokes:
    """Each image drawn once as a picture of a random kind of `ROWS` and prepared. Raises UnknownPolicy."""
    starts = range(0, len(strokes), _AT_ONCE)
    parts = [strokes[at : at + _AT_ONCE] for at in starts]
    # Not a fork: TensorFlow's threads may hold locks, which a fork would never get.
    # Ctrl-C reaches every process: this one ends the command, and the others would print a trace each.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(mp_context=context, initializer=signal.signal, initargs=ignore) as pool:
        drawn = list(pool.map(draw_some, parts, [prepare] * len(parts), [(seed, at) for at in starts]))
    return np.concatenate(drawn)


def draw_some(strokes: Strokes, prepare: PrepareSpec, seed: tuple[int, int]) -> Strokes:
    """As `draw_as_people`, in this process."""
    height, width, channels = strokes.shape[1:]
    policy = find_policy(prepare, InputSpec((height, width, channels), "uint8", "grey"))
    rng, rows = np.random.default_rng(seed), list(ROWS)
    return np.stack([policy(draw_row(each[..., 0], rows[rng.integers(len(rows))], rng)) for each in strokes])
