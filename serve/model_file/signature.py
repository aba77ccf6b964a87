"""The inputs and outputs of a graph, and what its metadata say -> whether the two fit together.

Enters: a line for each input and output, as in `images tensor(uint8) [N, 28, 28, 1]`; a `ModelSpec`. Leaves: nothing,
or InvalidMetadata. Does not know: who runs the graph.
"""

from collections.abc import Sequence

from serve.errors import InvalidMetadata, list_some
from serve.model_file.familiarity import FAMILIARITY
from serve.model_file.spec import INPUT, OUTPUT, PREFIX, ModelSpec


def check_signature(inputs: Sequence[str], outputs: Sequence[str], spec: ModelSpec) -> None:
    """Raise InvalidMetadata unless a graph takes images and gives what its metadata say."""
    wanted = f"{INPUT} tensor(uint8) [{', '.join(map(str, ('N', *spec.input.shape)))}]"
    if list(inputs) != [wanted]:
        raise InvalidMetadata(f"wanted the one input {wanted}, the graph has {list_some(inputs)}")
    wanted = f"{OUTPUT} tensor(float) [N, {spec.class_count}]"
    if wanted not in outputs:
        raise InvalidMetadata(f"wanted an output {wanted}, the graph has {list_some(outputs)}")
    found = [output for output in outputs if output.split()[0] == FAMILIARITY]
    key = PREFIX + FAMILIARITY
    if spec.familiarity is None and found:
        raise InvalidMetadata(f"wanted the metadata key {key} with the output {FAMILIARITY}, the file lacks the key")
    wanted = f"{FAMILIARITY} tensor(float) [N]"
    if spec.familiarity is not None and found != [wanted]:
        raise InvalidMetadata(f"wanted an output {wanted} with the key {key}, the graph has {list_some(outputs)}")
