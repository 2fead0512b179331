"""What a machine with a GPU can tell in ten minutes: right or wrong, which tiles, how fast.

`lincodegen gpu-check`, or ``python -m lincodegen.gpu_check`` where nothing but PyTorch and Triton
is installed: no compiler stage is imported, since generated packages keep their recurrence.
"""
