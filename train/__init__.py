"""Training: a published dataset enters, one self-describing model.onnx leaves. Knows nothing of gRPC or of servers."""

import os

import serve as serve  # switches ONNX Runtime's telemetry off, before any room here imports onnxruntime

# TensorFlow's C++ side reports its build options as INFO and WARNING on every import; errors still show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
