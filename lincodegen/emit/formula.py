"""Formulas of tiles in the derivation's symbols: the comments of emitted kernels."""

from __future__ import annotations

from lincodegen.emit.triton_rows import SIZES
from lincodegen.program.ir import Tile, is_dot, strip
from lincodegen.program.program import Program


def formula(tile: Tile, program: Program, depth: int) -> str:
    """A formula of a tile in the derivation's symbols, two levels deep at most."""
    tile = strip(tile)
    name = program.graph.names.get(tile.id)
    if depth and name:
        return name
    args = [formula(a, program, depth + 1) for a in tile.args] if depth < 2 else []
    axes = "".join(a for a in tile.axes if a not in SIZES)
    match tile.op:
        case "ein" if args:
            sign = " " if is_dot(tile) else " * "
            return sign.join(args)
        case "add" if args:
            return f"({args[0]} + {args[1]})" if depth else f"{args[0]} + {args[1]}"
        case "scale" if args:
            return f"-{args[0]}" if tile.attr[0] == -1 else f"{tile.attr[0]} {args[0]}"
        case "factor" if args:
            return f"{tile.attr[0]} {args[0]}"
        case "reduce" if args:
            return f"sum {args[0]}"
        case "broadcast" if args:
            return args[0]
        case "alive" if args:
            return args[0]
        case "diagonal" if args:
            return f"diagonal of {args[0]}"
        case "decay":
            return f"E({tile.attr[0]}, {tile.attr[1]})"
        case "contract" if args:
            return f"<{args[0]}, {args[1]}>_E"
        case "inverse" if args:
            return f"(I - {args[0]})^-1"
        case "running":
            return "sum over later rows"
        case "once" if args:
            return args[0]
        case "load" | "log_decay":
            return program.operand(tile).name
        case "cotangent":
            return f"dO{tile.attr[0] or ''}"
    return name or f"{tile.op}_{axes}"
