"""Everything gRPC and ONNX Runtime: model files in, answers out. Never sees TensorFlow."""
