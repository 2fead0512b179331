"""The ``inputs``, ``parameters`` and ``state`` of a spec: shapes, promises, defaults."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from lincodegen.spec import keys
from lincodegen.spec.constants import constant_value
from lincodegen.spec.dims import Dim
from lincodegen.spec.document import Mapping, Scalar, Value
from lincodegen.spec.expressions import Builder, Scope
from lincodegen.spec.intervals import read_interval
from lincodegen.spec.names import Names
from lincodegen.spec.polynomials import polynomial
from lincodegen.spec.problems import Mistake, Problems
from lincodegen.spec.shapes import shown
from lincodegen.spec.step import REALS, Interval, Node, Place, Shape, State, Tensor
from lincodegen.spec.syntax import parse_expression
from lincodegen.spec.vocabulary import DEFAULT_FUNCTIONS, NO_DIMENSIONS, check_identifier

_TENSOR = "k: {shape: [K]}"
_SHAPE = "shape: [K, V]"
_MAX_STATE_RANK = 2


def dimensions(mappings: Iterable[Mapping], names: Names, problems: Problems) -> dict[str, Place]:
    """The capitalised names in the shapes of inputs or parameters, in order of appearance."""
    found: dict[str, Place] = {}
    for entry in (entry for mapping in mappings for entry in _shape_entries(mapping)):
        try:
            expression = parse_expression(entry)
        except Mistake:
            # told when the shape itself is read
            continue
        for node in ast.walk(expression.tree):
            if not isinstance(node, ast.Name) or not node.id[0].isupper() or node.id in found:
                continue
            names.broken.add(node.id)
            with problems.collecting():
                _check_dimension(node.id, expression.place(node))
                names.broken.discard(node.id)
                found[node.id] = expression.place(node)
    return found


def _shape_entries(mapping: Mapping) -> Iterator[Scalar]:
    for _, tensor in mapping.entries:
        shape = tensor.get("shape") if isinstance(tensor, Mapping) else None
        if isinstance(shape, keys.Sequence):
            yield from (item for item in shape.items if isinstance(item, Scalar))


def _check_dimension(name: str, place: Place) -> None:
    if name in NO_DIMENSIONS:
        found = f"a dimension called `{name}`"
        hint = "B, T, H and N count batch entries, tokens, heads and sequences"
        raise Mistake(place, found, "another name", hint)
    check_identifier(name, place)


def read_tensors(
    mapping: Mapping, kind: str, names: Names, problems: Problems
) -> tuple[Tensor, ...]:
    """The inputs or parameters, in the file's order."""
    tensors: list[Tensor] = []
    for key, value in mapping.entries:
        names.broken.add(key.text)
        with problems.collecting():
            check_identifier(key.text, key.place)
            names.declare(key.text, kind, key.place)
            tensor = _tensor(key, value, names, problems)
            names.broken.discard(key.text)
            tensors.append(tensor)
    return tuple(tensors)


def _tensor(key: Scalar, value: Value, names: Names, problems: Problems) -> Tensor:
    fields = keys.check_keys(
        keys.as_mapping(value, f"`{key.text}`", _TENSOR), keys.TENSOR, "tensor", problems
    )
    texts = {
        name: keys.as_scalar(field, f"the {name} of `{key.text}`")
        for name, field in fields.items()
        if name != "shape"
    }
    shape = _shape(fields.get("shape"), key, names)
    _check_readable(shape, fields["shape"])
    domain, norm, default = REALS, None, None
    # each of the three may be mistaken without the others, and the shape stays known
    with problems.collecting():
        domain = read_interval(texts["domain"], names) if "domain" in texts else REALS
    with problems.collecting():
        norm = _norm(texts["norm"], shape, names) if "norm" in texts else None
    with problems.collecting():
        default = _default(texts["default"], names) if "default" in texts else None
    doc = texts["doc"].text.strip() if "doc" in texts else ""
    return Tensor(key.text, shape, domain, norm, default, doc)


def _shape(value: Value | None, key: Scalar, names: Names) -> Shape:
    what = f"the shape of `{key.text}`"
    sizes: list[Dim] = []
    for item in keys.as_sequence(value, what, _SHAPE, key.place).items:
        expression = parse_expression(keys.as_scalar(item, f"an entry of {what}"))
        size = polynomial(expression.tree, expression.place, names.size)
        if size.constant is not None and size.constant < 1:
            raise Mistake(item.place, f"an axis of size {size}", "a size of at least 1")
        sizes.append(size)
    return tuple(sizes)


def _check_readable(shape: Shape, value: Value) -> None:
    """Refuse an axis from which no dimension can be read off a call."""
    for size in shape:
        single = len(size.terms) == 1 and len(size.terms[0][0]) <= 1 and size.terms[0][1] > 0
        if not single:
            found = f"the axis `{size}` of {shown(shape)}"
            expected = "an integer, a dimension or an integer times a dimension"
            raise Mistake(value.place, found, expected, "name it: a dimension of its own")


def _norm(text: Scalar, shape: Shape, names: Names) -> Interval:
    if not shape:
        raise Mistake(text.place, "a norm of a scalar", "`norm` on a vector; `domain` here")
    norm = read_interval(text, names)
    if norm.low < 0:
        raise Mistake(text.place, f"a norm from {norm.low} on", "a low end of at least 0")
    return norm


def _default(text: Scalar, names: Names) -> Node:
    expression = parse_expression(text)

    def value(name: str, place: Place) -> Node:
        if name not in ("h", "H"):
            return constant_value(names, name, place)
        if name in names.integers or name in names.floats:
            raise Mistake(place, f"`{name}` is a constant and the head index or count here")
        return Node("input", (), (name,), (), place)

    scope = Scope(value, names.size, DEFAULT_FUNCTIONS, "a default", arrays=False)
    return Builder(expression, scope).node(expression.tree)


def read_states(mapping: Mapping, names: Names, problems: Problems) -> tuple[State, ...]:
    """The states, in the file's order."""
    states: list[State] = []
    for key, value in mapping.entries:
        names.broken.add(key.text)
        with problems.collecting():
            check_identifier(key.text, key.place)
            names.declare(key.text, "state", key.place)
            fields = keys.check_keys(
                keys.as_mapping(value, f"`{key.text}`", "S: {shape: [K, V]}"),
                keys.STATE,
                "state",
                problems,
            )
            shape = _shape(fields.get("shape"), key, names)
            if len(shape) > _MAX_STATE_RANK:
                found = f"a state of the shape {shown(shape)}"
                raise Mistake(fields["shape"].place, found, "rank 0, 1 or 2", "use `ravel`")
            names.broken.discard(key.text)
            states.append(State(key.text, shape))
    return tuple(states)
