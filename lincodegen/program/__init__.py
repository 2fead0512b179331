"""The tile program of a chunked form, its adjoint and its proof; token programs."""
