"""A Triton server with one model, measured in turn with ours: the same ONNX file, the same Pillow, two workers.

Enters: PNG files as the BYTES tensor `image` [N, 1]. Leaves: `probabilities` float32 [N, K].
Does not know: this package. It runs in an environment of its own (`pip install nvidia-pytriton onnxruntime pillow`):

    python serve/bench/peers/pytriton_server.py models/mnist-cnn/1/model.onnx mnist-cnn 8001
"""

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime as ort
from PIL import PngImagePlugin
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

WORKERS = 2
MAX_BATCH = 32


def open_session(path: Path) -> ort.InferenceSession:
    """A session with the options of our engine: one thread, no spinning."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def make_function(path: Path) -> Callable[..., dict[str, Any]]:
    """The function with which a worker answers a batch."""
    session = open_session(path)
    shape = session.get_inputs()[0].shape[1:]

    @batch  # type: ignore[untyped-decorator]  # pytriton has no types
    def infer(image: Any) -> dict[str, Any]:
        images = np.empty((len(image), *shape), np.uint8)
        for file, pixels in zip(image[:, 0], images, strict=True):
            decoded = PngImagePlugin.PngImageFile(io.BytesIO(file)).tobytes()
            pixels[...] = np.frombuffer(decoded, np.uint8).reshape(shape)
        return {"probabilities": session.run(["probabilities"], {"images": images})[0]}

    return infer  # type: ignore[no-any-return]  # as above


def main(path: Path, model: str, port: int) -> None:
    """Serve a model file under a name until a signal arrives."""
    classes = open_session(path).get_outputs()[0].shape[1]
    config = TritonConfig(
        http_address="127.0.0.1", http_port=port + 1, grpc_address="127.0.0.1", grpc_port=port, allow_metrics=False
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name=model,
            infer_func=[make_function(path) for _ in range(WORKERS)],
            inputs=[Tensor(name="image", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(classes,))],
            config=ModelConfig(max_batch_size=MAX_BATCH, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
            strict=False,
        )
        triton.serve()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
