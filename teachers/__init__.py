"""BERT teachers of a spiking student: made or read, written as ONNX, and run through ONNX Runtime."""
