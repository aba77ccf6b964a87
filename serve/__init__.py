"""Serve image classifiers over gRPC, from model files that describe themselves."""

import os

# Before any import of onnxruntime: its Linux wheels otherwise write a device id and send events (onnxruntime#27379).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
