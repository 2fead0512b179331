"""Cuts of a tile program into kernels and phases."""
