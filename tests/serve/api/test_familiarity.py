"""The familiarity of an image, over real connections: in answers, options, descriptions, and both protocols."""

import struct
from collections.abc import Callable, Iterator

import grpc
import pytest
from PIL import Image

from serve.client.client import Client
from serve.errors import CallError
from serve.pb import classifier_pb2 as ours
from serve.pb import open_inference_pb2 as pb
from serve.pb.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.serve.api.messages import classes, make_files, pack, with_model, with_output
from tests.support import Png, RunningServer, encode, write_tiny_model

THIRD = pytest.approx(1 / 3, abs=1e-6)
"""The mean brightness of an image with one bright band of three."""


@pytest.fixture(scope="module")
def familiar(start_server: Callable[..., RunningServer], tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    """A server with `bright`, which gives a familiarity, `over`, which gives 1.5 for white, and `bands` without."""
    folder = tmp_path_factory.mktemp("models")
    write_tiny_model(folder / "bright", name="bright", brightness=1)
    write_tiny_model(folder / "over", name="over", brightness=1.5)
    write_tiny_model(folder / "bands")
    return start_server(folder)


@pytest.fixture(scope="module")
def caller(familiar: RunningServer) -> Iterator[Client]:
    with Client(familiar.address) as client:
        yield client


@pytest.fixture(scope="module")
def stub(familiar: RunningServer) -> Iterator[GRPCInferenceServiceStub]:
    with grpc.insecure_channel(familiar.address) as channel:
        yield GRPCInferenceServiceStub(channel)


def test_an_answer_has_the_familiarity_if_the_file_gives_it(caller: Client, png: Png) -> None:
    answer = caller.classify(png(0), model="bright")
    assert (answer.familiarity, answer.unknown) == (THIRD, False)
    assert caller.classify(png(0), model="bands").familiarity is None


@pytest.mark.parametrize(("least", "unknown"), [(0, False), (0.3, False), (0.4, True), (1, True)])
def test_below_the_least_familiarity_an_image_is_unknown(caller: Client, png: Png, least: float, unknown: bool) -> None:
    answers = [
        caller.classify(png(0), model="bright", min_familiarity=least),
        *caller.classify_many([png(0)] * 2, model="bright", min_familiarity=least),
    ]
    for answer in answers:
        assert not isinstance(answer, CallError)
        assert (answer.unknown, answer.best.label, len(answer.classes)) == (unknown, "top", 3)


@pytest.mark.parametrize("least", [-0.1, 1.001, float("nan"), float("inf"), -float("inf")])
def test_a_least_familiarity_that_is_no_share_is_refused(caller: Client, png: Png, least: float) -> None:
    for call in (
        lambda: caller.classify(png(0), model="bright", min_familiarity=least),
        lambda: caller.classify_many([png(0)], model="bright", min_familiarity=least),
    ):
        with pytest.raises(CallError, match=r"min_familiarity: wanted a share from 0 \(off\) to 1, got") as caught:
            call()
        assert (caught.value.code, caught.value.reason) == ("INVALID_ARGUMENT", "OPTION_INVALID")


def test_a_model_without_familiarity_refuses_a_least_one(caller: Client, png: Png) -> None:
    with pytest.raises(CallError, match=r"wanted 0, for bands gives no familiarity; got 0\.01") as caught:
        caller.classify(png(0), model="bands", min_familiarity=0.01)
    assert caught.value.code == "INVALID_ARGUMENT"


def test_a_stream_says_it_too(familiar: RunningServer, png: Png) -> None:
    options = ours.ClassifyOptions(min_familiarity=0.4)
    requests = [
        ours.StreamClassifyRequest(id="1", model="bright", image=png(0), options=options),
        ours.StreamClassifyRequest(id="2", model="bands", image=png(0), options=options),
    ]
    with grpc.insecure_channel(familiar.address) as channel:
        call = channel.stream_stream(
            "/inkling.v1.ClassifierService/StreamClassify",
            request_serializer=ours.StreamClassifyRequest.SerializeToString,
            response_deserializer=ours.StreamClassifyResponse.FromString,
        )
        replies = {reply.id: reply for reply in call(iter(requests))}
    assert replies["1"].classification.unknown
    assert replies["1"].classification.familiarity == THIRD
    assert "gives no familiarity" in replies["2"].error.message


def test_a_familiarity_that_is_no_share_is_a_fault_of_the_server(caller: Client, png: Png) -> None:
    """It fails alone: others of its batch are answered."""
    white = encode(Image.new("RGB", (12, 12), "white"))
    outcomes = caller.classify_many([white, png(0)], model="over")
    assert isinstance(outcomes[0], CallError)
    assert outcomes[0].code == "INTERNAL"
    assert "familiarity" not in outcomes[0].message
    assert not isinstance(outcomes[1], CallError)
    assert outcomes[1].familiarity == pytest.approx(0.5, abs=1e-6)


def test_a_description_says_how_it_was_fitted_and_its_figures(caller: Client) -> None:
    facts = caller.get_model("bright").familiarity
    assert facts["method"] == "brightness"
    assert facts["strangers"]["dark pages"]["roc_auc"] == 0.9
    assert not caller.get_model("bands").familiarity.fields


def ask(model: str, *images: bytes) -> pb.ModelInferRequest:
    """A request with image files."""
    request = make_files(pack(*images), len(images))
    with_model(model)(request)
    return request


def test_open_inference_has_it_as_the_second_output(stub: GRPCInferenceServiceStub, png: Png) -> None:
    response = stub.ModelInfer(ask("bright", png(0), png(1)))
    assert [output.name for output in response.outputs] == ["probabilities", "familiarity"]
    assert (response.outputs[1].datatype, list(response.outputs[1].shape)) == ("FP32", [2])
    assert struct.unpack("<2f", response.raw_output_contents[1]) == (THIRD, THIRD)
    streamed = next(iter(stub.ModelStreamInfer(iter([ask("bright", png(0))]))))
    assert struct.unpack("<f", streamed.infer_response.raw_output_contents[1]) == (THIRD,)
    assert len(stub.ModelInfer(ask("bands", png(0))).outputs) == 1


def test_open_inference_gives_it_alone_if_that_is_asked_for(stub: GRPCInferenceServiceStub, png: Png) -> None:
    request = ask("bright", png(0))
    with_output("familiarity")(request)
    assert struct.unpack("<f", *stub.ModelInfer(request).raw_output_contents) == (THIRD,)
    for model, output, sentence in (
        ("bright", with_output("familiarity", classification=classes(int64_param=2)), "wanted no classification"),
        ("bands", with_output("familiarity"), "wanted outputs of probabilities; got 'familiarity'"),
    ):
        request = ask(model, png(0))
        output(request)
        with pytest.raises(grpc.RpcError, match=sentence):
            stub.ModelInfer(request)


def test_open_inference_describes_it(stub: GRPCInferenceServiceStub) -> None:
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="bright"))
    assert [(each.name, each.datatype, list(each.shape)) for each in metadata.outputs][1:] == [
        ("familiarity", "FP32", [-1])
    ]
    config = stub.ModelConfig(pb.ModelConfigRequest(name="bright")).config
    assert [each.name for each in config.output] == ["probabilities", "familiarity"]
    assert len(stub.ModelMetadata(pb.ModelMetadataRequest(name="bands")).outputs) == 1
