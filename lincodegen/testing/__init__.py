"""What makes kernels testable on a CPU: a truthful interpreter, and memory that shows misuse."""

from __future__ import annotations

from lincodegen.testing.poison import poisoned_empty

__all__ = ["install_interpreter_fixes", "poisoned_empty"]


def install_interpreter_fixes(*, emulate_tf32: bool = False) -> None:
    """Makes Triton's interpreter compute bfloat16 as a GPU does; may be called repeatedly.

    Repaired are dots, arithmetic, comparisons, fma, sums, scans, casts and constants of bfloat16,
    and, for Triton before 3.7 with NumPy from 2.4 on, loops over a run-time bound. Sums and scans
    accumulate in float32 and round once, where a GPU may round every partial sum.

    Args:
        emulate_tf32: also lose what a GPU loses in float32 dots with input precision "tf32"
            (operands cut to 10 bits of mantissa) and "tf32x3" (three products of rounded parts).
            The last call decides.
    """
    # triton is heavy, and absent where only the PyTorch path is tested
    from lincodegen.testing.interpreter import install  # noqa: PLC0415

    install(emulate_tf32=emulate_tf32)
