"""The words of the spec language: functions, reserved names, what a name may look like."""

from __future__ import annotations

import builtins
import keyword
import re

from lincodegen.spec.problems import Mistake, nearest
from lincodegen.spec.step import Place

ELEMENTWISE = frozenset(
    {"exp", "log", "log1p", "sigmoid", "softplus", "silu", "gelu", "tanh", "relu", "elu"}
    | {"abs", "sign", "sqrt", "rsqrt"}
)
LAST_AXIS = frozenset(["cumsum", "softmax", "l2norm", "rmsnorm", "layernorm"])
SHAPED = frozenset({"ones", "zeros", "eye"})
FUNCTIONS = (
    ELEMENTWISE
    | LAST_AXIS
    | SHAPED
    | {"outer", "dot", "diag", "ravel", "concat", "maximum", "minimum", "where", "sum", "mean"}
)
LATER_FUNCTIONS = frozenset({"cos", "sin", "real", "imag", "conj", "frozen", "lag", "grad"})
CONSTANT_FUNCTIONS = frozenset({"sqrt", "exp", "log"})
DEFAULT_FUNCTIONS = ELEMENTWISE | {"maximum", "minimum"}

ARGUMENTS = frozenset(
    {"initial_state", "output_final_state", "cu_seqlens", "cu_seqlens_cpu", "check_inputs"}
    | {"state", "state_indices", "state_v_first", "out"}
)
NO_DIMENSIONS = frozenset({"B", "T", "H", "N"})

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SPEC_NAME = re.compile(r"[a-z][a-z0-9_]*")
_MAX_NAME = 64


def check_spec_name(name: str, place: Place) -> None:
    """Refuse a spec name that could not name a Python function and a folder."""
    if not _SPEC_NAME.fullmatch(name) or len(name) > _MAX_NAME:
        raise Mistake(place, f"the name {name[:_MAX_NAME]!r}", "lower case: [a-z][a-z0-9_]*")
    if keyword.iskeyword(name) or hasattr(builtins, name):
        kind = "keyword" if keyword.iskeyword(name) else "builtin function"
        raise Mistake(place, f"the name `{name}` is a Python {kind}", "a name of its own")


def check_identifier(name: str, place: Place) -> None:
    """Refuse what cannot name an input, parameter, constant, state, local or loop variable."""
    expected = "another name"
    if not _IDENTIFIER.fullmatch(name) or len(name) > _MAX_NAME:
        raise Mistake(place, f"{name[:_MAX_NAME]!r} is no name", "letters, digits and underscores")
    if name.startswith("_"):
        raise Mistake(place, f"`{name}` starts with an underscore, which is reserved", expected)
    if keyword.iskeyword(name):
        raise Mistake(place, f"`{name}` is a Python keyword", expected)
    if name in FUNCTIONS | LATER_FUNCTIONS | {"range"}:
        raise Mistake(place, f"`{name}` is a function of the step language", expected)
    if name == "t":
        raise Mistake(place, "`t` is reserved for the token's position", expected)
    if name in ARGUMENTS:
        raise Mistake(place, f"`{name}` is an argument of every op", expected)


def unknown_function(name: str, place: Place, known: frozenset[str], where: str) -> Mistake:
    """The mistake of calling what is not, or not there, a function."""
    if name in LATER_FUNCTIONS:
        return Mistake(place, f"`{name}` is not yet supported")
    if name in FUNCTIONS:
        listed = ", ".join(sorted(known))
        return Mistake(place, f"`{name}` cannot be used in {where}", f"one of {listed}")
    listed = ", ".join(sorted(known))
    return Mistake(
        place, f"`{name}` is no function of {where}", f"one of {listed}", nearest(name, known)
    )
