"""Text: PyTorch and Triton forms, and the package of an op."""
