"""Ahead-of-time compilation for any GPU: a kernel and its arguments in, registers and memory out.

No GPU is needed. The kernels pass through Triton's own launch path, so that they are specialised
(divisibility, arguments equal to 1) exactly as a user's call specialises them.
"""

from lincodegen.compile.bounds import Bounds
from lincodegen.compile.job import Argument, CompileJob, Resources
from lincodegen.compile.pool import compile_kernel, compile_many

__all__ = ["Argument", "Bounds", "CompileJob", "Resources", "compile_kernel", "compile_many"]
