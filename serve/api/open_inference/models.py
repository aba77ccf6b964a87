"""What the Open Inference Protocol says of models: values -> messages.

Enters: runners, statistics, refusals. Leaves: metadata, configuration, statistics and the index of the repository.
Does not know: requests, where statistics come from, who loads models.
"""

import json
from collections.abc import Iterable, Sequence

from serve.api.open_inference.tensors import FAMILIARITY, INPUT, OUTPUT
from serve.images.decode import FORMAT_NAMES
from serve.inference.registry import Refusal
from serve.inference.runner import Runner
from serve.pb import open_inference_pb2 as pb
from serve.telemetry.model_statistics import Duration, ModelStatistics

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"
READY, UNAVAILABLE = "READY", "UNAVAILABLE"
UNLOADED = "unloaded"
"""Triton's reason for a model that is unavailable because a client unloaded it."""
ANY = -1
"""A dimension that the request chooses."""


def to_metadata(runner: Runner, versions: Iterable[int]) -> pb.ModelMetadataResponse:
    """The tensors of a model with the number of images in front, and what its file says about it."""
    spec = runner.spec
    metadata = pb.ModelMetadataResponse(
        name=runner.name,
        versions=map(str, sorted(versions)),
        platform=PLATFORM,
        properties=_to_properties(runner),
    )
    metadata.inputs.add(name=INPUT, datatype="UINT8", shape=(ANY, *spec.input.shape))
    metadata.outputs.add(name=OUTPUT, datatype="FP32", shape=(ANY, spec.class_count))
    if spec.familiarity is not None:
        metadata.outputs.add(name=FAMILIARITY, datatype="FP32", shape=(ANY,))
    return metadata


def _to_properties(runner: Runner) -> dict[str, str]:
    spec = runner.spec
    shape = ", ".join(map(str, spec.input.shape))
    return {
        INPUT: f"UINT8 [N, {shape}] is the net's input; BYTES [N] or [N, 1] are image files: {FORMAT_NAMES}",
        "labels": json.dumps(spec.labels, ensure_ascii=False),
        "policy": f"{spec.prepare.policy}/{spec.prepare.version}",
        "colour": spec.input.colour,
        "accuracy": spec.accuracy,
        "test_count": str(spec.test_count),
        "precision": spec.precision,
        "dataset": spec.dataset,
    }


def to_config(runner: Runner, max_request_images: int) -> pb.ModelConfig:
    """A model as Triton's configuration has it; its dimensions are without the number of images."""
    spec = runner.spec
    config = pb.ModelConfig(name=runner.name, platform=PLATFORM, backend=BACKEND, max_batch_size=max_request_images)
    config.input.add(name=INPUT, data_type=pb.TYPE_UINT8, format=pb.ModelInput.FORMAT_NHWC, dims=spec.input.shape)
    config.output.add(name=OUTPUT, data_type=pb.TYPE_FP32, dims=[spec.class_count])
    if spec.familiarity is not None:
        config.output.add(name=FAMILIARITY, data_type=pb.TYPE_FP32)
    config.dynamic_batching.preferred_batch_size.append(runner.max_batch)
    config.dynamic_batching.max_queue_delay_microseconds = runner.limits.max_queue_delay_us
    return config


def to_statistics(runner: Runner, statistics: ModelStatistics) -> pb.ModelStatistics:
    """What a version of a model did."""
    message = pb.ModelStatistics(
        name=runner.name,
        version=str(runner.version),
        last_inference=statistics.last_answer_ms,
        inference_count=statistics.images,
        execution_count=statistics.run_count,
        inference_stats=pb.InferStatistics(
            success=_to_duration(statistics.success),
            fail=_to_duration(statistics.failure),
            queue=_to_duration(statistics.queue),
            compute_input=_to_duration(statistics.prepare),
            compute_infer=_to_duration(statistics.inference),
            compute_output=pb.StatisticDuration(count=statistics.success.count),
        ),
    )
    for size, tally in statistics.runs.items():
        message.batch_stats.add(
            batch_size=size,
            compute_input=pb.StatisticDuration(count=tally.count, ns=tally.prepare_ns),
            compute_infer=pb.StatisticDuration(count=tally.count, ns=tally.inference_ns),
            compute_output=pb.StatisticDuration(count=tally.count),
        )
    return message


def _to_duration(tally: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=tally.count, ns=tally.ns)


def to_index(
    runners: Sequence[Runner], refusals: Iterable[Refusal], unloaded: Iterable[tuple[str, int]]
) -> Iterable[pb.RepositoryIndexResponse.ModelIndex]:
    """What is served, with the reason if a variant of it was refused; then what is not, unloaded or refused."""
    reasons = dict.fromkeys(unloaded, UNLOADED)
    reasons |= {(refusal.file.name, refusal.file.version): refusal.reason for refusal in refusals}
    for runner in runners:
        reason = reasons.pop((runner.name, runner.version), "")
        yield _to_entry(runner.name, runner.version, READY, reason)
    for (name, version), reason in reasons.items():
        yield _to_entry(name, version, UNAVAILABLE, reason)


def _to_entry(name: str, version: int, state: str, reason: str) -> pb.RepositoryIndexResponse.ModelIndex:
    return pb.RepositoryIndexResponse.ModelIndex(name=name, version=str(version), state=state, reason=reason)
