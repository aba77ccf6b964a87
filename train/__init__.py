"""Training: a dataset enters, one self-describing model.onnx leaves. It does not know gRPC or servers."""

import os

import serve as serve  # switches ONNX Runtime's telemetry off, before any room here imports onnxruntime

# TensorFlow logs its build options as INFO and WARNING on every import. Errors still show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
