"""Policies as files that need nothing of this package: safetensors, JSON, TorchScript and ONNX."""
