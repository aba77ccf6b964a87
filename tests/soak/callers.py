"""Those who call during a soak: good ones, whose answers are known, and careless and hostile ones.

Enters: the address of a server, a source of chance. Leaves: the outcome of one turn, as a word.
Does not know: what happens to the servers meanwhile.
"""

import contextlib
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import grpc
from google.protobuf.message_factory import GetMessageClass

from serve.api.inkling_v1 import SERVICE
from serve.client.client import Client
from serve.errors import CallError, InklingError
from serve.pb import classifier_pb2 as pb
from serve.pb.classifier_pb2_grpc import ClassifierServiceStub
from serve.pb.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.fuzz.corpus import image_files, methods, requests
from tests.serve.api.messages import make_files, pack
from tests.serve.hostile.images import bombs
from tests.serve.hostile.wire import call, connect, goaway, hello

LONGEST_CALL_S = 120.0
"""Seconds. A good call that takes longer has failed, also on a busy machine."""
FLOOD = 32
"""Calls that a flooding caller has under way at once."""
RIGHT, WRONG = "OK", "WRONG"
LABELS = ("top", "middle", "bottom")

Outcomes: TypeAlias = Sequence[str]
Turn: TypeAlias = Callable[["Connection", random.Random], Outcomes]


class Connection:
    """A client and a channel to one server, for one caller."""

    def __init__(self, address: str, images: Sequence[bytes]) -> None:
        """`images` have their bright band at the top, in the middle and at the bottom."""
        self.address = address
        self.images = images
        self.client = Client(address, timeout_s=LONGEST_CALL_S)
        self.channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])

    def close(self) -> None:
        """Hang up."""
        self.client.close()
        self.channel.close()


class Kind(NamedTuple):
    """A kind of caller."""

    turn: Turn
    pause_s: float
    """Between two turns."""
    is_good: bool = False


def classify(connection: Connection, chance: random.Random) -> Outcomes:
    """One image."""
    band = chance.randrange(3)
    return [_judge(connection.client.classify(connection.images[band], model="bands").best.label, band)]


def classify_many(connection: Connection, chance: random.Random) -> Outcomes:
    """Images of a batch, one of them unreadable."""
    bands = [chance.randrange(3) for _ in range(8)]
    files = [*(connection.images[band] for band in bands), b"no image"]
    answers = connection.client.classify_many(files, model="bands")
    *images, unreadable = [each.code if isinstance(each, InklingError) else each.best.label for each in answers]
    refused = RIGHT if unreadable == "INVALID_ARGUMENT" else WRONG
    return [refused, *(_judge(label, band) for label, band in zip(images, bands, strict=True))]


def stream(connection: Connection, chance: random.Random) -> Outcomes:
    """A stream of images; each answer has its request's id."""
    bands = {str(number): chance.randrange(3) for number in range(20)}
    sent = [
        pb.StreamClassifyRequest(id=number, model="bands", image=connection.images[band])
        for number, band in bands.items()
    ]
    replies = ClassifierServiceStub(connection.channel).StreamClassify(iter(sent), timeout=LONGEST_CALL_S)
    return [_judge(reply.classification.classes[0].label, bands[reply.id]) for reply in replies]


def infer(connection: Connection, chance: random.Random) -> Outcomes:
    """The Open Inference Protocol; the answer's bytes are probabilities."""
    band = chance.randrange(3)
    request = make_files(pack(connection.images[band]), 1)
    request.outputs.add(name="probabilities").parameters["classification"].int64_param = 1
    reply = GRPCInferenceServiceStub(connection.channel).ModelInfer(request, timeout=LONGEST_CALL_S)
    return [RIGHT if reply.raw_output_contents[0].decode().endswith(LABELS[band]) else WRONG]


def mutate(connection: Connection, chance: random.Random) -> Outcomes:
    """A request of any method with some of its bytes changed."""
    method = chance.choice(methods())
    data = bytearray(chance.choice(requests(method)).SerializeToString())
    for _ in range(chance.randrange(5)):
        at = chance.randrange(len(data) + 1)
        data[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(4))
    path = f"/{method.containing_service.full_name}/{method.name}"
    if method.client_streaming:
        replies = list(connection.channel.stream_stream(path)(iter([bytes(data)]), timeout=LONGEST_CALL_S))
    else:
        replies = [connection.channel.unary_unary(path)(bytes(data), timeout=LONGEST_CALL_S)]
    for reply in replies:
        GetMessageClass(method.output_type).FromString(reply)
    return [RIGHT]


def send_bomb(connection: Connection, chance: random.Random) -> Outcomes:
    """A small file of many pixels."""
    connection.client.classify(chance.choice(_BOMBS), model="bands")
    return [RIGHT]


def send_damaged(connection: Connection, chance: random.Random) -> Outcomes:
    """An image file with some bytes changed."""
    data = bytearray(chance.choice(_FILES))
    for _ in range(chance.randrange(1, 20)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    connection.client.classify(bytes(data), model=chance.choice(["bands", "grey-bands", "", "none"]))
    return [RIGHT]


def flood(connection: Connection, chance: random.Random) -> Outcomes:
    """Many calls at once, without a retry."""
    stub = ClassifierServiceStub(connection.channel)
    request = pb.ClassifyRequest(model="bands", image=chance.choice(_FILES))
    sent = [stub.Classify.future(request, timeout=LONGEST_CALL_S) for _ in range(FLOOD)]
    return [each.code().name for each in sent]


def leave(connection: Connection, chance: random.Random) -> Outcomes:
    """Calls that are cancelled, or whose deadline is too short."""
    stub = ClassifierServiceStub(connection.channel)
    images = [chance.choice(_FILES) for _ in range(8)]
    request = pb.BatchClassifyRequest(model="bands", images=images)
    sent = [stub.BatchClassify.future(request, timeout=chance.choice([0.001, 0.01, 60])) for _ in range(4)]
    chance.choice(sent).cancel()
    return [each.code().name for each in sent]


def hold(connection: Connection, chance: random.Random) -> Outcomes:
    """A connection that lies, stalls, never reads, or says nothing."""
    path = f"{SERVICE.full_name}/Classify"
    unfinished = call(1, path, chance.randbytes(100), ends=False)
    said = [unfinished, goaway(b"\n\x1b[31mforged"), chance.randbytes(200)]
    data = chance.choice([b"", hello(window=0) + unfinished, *(hello() + each for each in said)])
    try:
        with contextlib.closing(connect(connection.address, data)) as held:
            held.settimeout(chance.choice([0.1, 2.0]))
            with contextlib.suppress(TimeoutError):
                held.recv(1000)
    except OSError:
        return ["hung up"]
    return ["held"]


_FILES = sorted(data for data in image_files().values() if len(data) < 50_000)
_BOMBS = [data for name, data in bombs().items() if name != "png"]

KINDS = {
    "good, one image": Kind(classify, 0.02, is_good=True),
    "good, batches": Kind(classify_many, 0.05, is_good=True),
    "good, streams": Kind(stream, 0.05, is_good=True),
    "good, Open Inference": Kind(infer, 0.02, is_good=True),
    "mutated requests": Kind(mutate, 0.02),
    "damaged images": Kind(send_damaged, 0.02),
    "images of many pixels": Kind(send_bomb, 0.5),
    "floods": Kind(flood, 0.5),
    "callers who leave": Kind(leave, 0.1),
    "raw connections": Kind(hold, 0.1),
}


def take_turn(kind: Kind, connection: Connection, chance: random.Random) -> Outcomes:
    """The outcomes of one turn: OK, WRONG, the code of a status, or another word."""
    try:
        return kind.turn(connection, chance)
    except CallError as error:
        return [error.code]
    except grpc.RpcError as error:
        return [error.code().name]


def _judge(label: str, band: int) -> str:
    return RIGHT if label == LABELS[band] else WRONG
