"""The ``constants`` of a spec: integers fixed when it is read, and arguments of the op."""

from __future__ import annotations

from collections.abc import Mapping as Numbers

from lincodegen.spec import nodes
from lincodegen.spec.document import Mapping
from lincodegen.spec.expressions import Builder, Scope
from lincodegen.spec.folding import INTEGER_LIMIT
from lincodegen.spec.keys import as_scalar
from lincodegen.spec.names import Names
from lincodegen.spec.problems import Mistake, Problems, nearest
from lincodegen.spec.step import Constant, Node, Place
from lincodegen.spec.syntax import Expression, parse_expression
from lincodegen.spec.vocabulary import CONSTANT_FUNCTIONS, check_identifier

_WHERE = "a constant"


def read_constants(
    mapping: Mapping,
    dims: Numbers[str, Place],
    sets: Numbers[str, int],
    names: Names,
    problems: Problems,
) -> tuple[Constant, ...]:
    """The constants that become arguments; integers and free dimensions go into ``names``.

    ``dims`` are the dimensions that occur in shapes, ``sets`` the integers given by the
    caller in place of those of the file.
    """
    expressions: dict[str, Expression] = {}
    for key, value in mapping.entries:
        names.broken.add(key.text)
        with problems.collecting():
            check_identifier(key.text, key.place)
            names.declare(key.text, "constant", key.place)
            expressions[key.text] = parse_expression(as_scalar(value, f"`{key.text}`"))
    for name, value in sets.items():
        with problems.collecting():
            _check_set(name, value, [*expressions, *dims], mapping.place)
            if name in dims and name not in expressions:
                names.integers[name] = value
    _fold_integers(expressions, sets, names)
    names.dims = [name for name in dims if name not in names.kinds and name not in names.integers]
    for name in dims:
        if name not in names.kinds:
            names.declare(name, "dimension", dims[name])
    constants: list[Constant] = []
    for name, expression in expressions.items():
        with problems.collecting():
            constants += _argument(name, expression, dims, names)
    for name in sets:
        if name in names.floats:
            found = f"`{name}` is set to an integer, but is an argument of the op"
            problems.add(Mistake(names.places[name], found, "an integer constant"))
    return tuple(constants)


def _check_set(name: str, value: object, known: list[str], place: Place) -> None:
    if name not in known:
        expected = "one of " + ", ".join(known) if known else "no setting"
        raise Mistake(
            place, f"`{name}` is set, but not in the spec", expected, nearest(name, known)
        )
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > INTEGER_LIMIT:
        raise Mistake(place, f"`{name}` is set to {value!r}", "an integer")


def _fold_integers(
    expressions: Numbers[str, Expression], sets: Numbers[str, int], names: Names
) -> None:
    """Evaluate, in the file's order, the constants that are integers by themselves."""

    def value(name: str, place: Place) -> Node:
        if name not in names.integers:
            raise Mistake(place, "not known when the spec is read")
        return nodes.number(names.integers[name], place)

    scope = Scope(value, names.size, CONSTANT_FUNCTIONS, _WHERE, arrays=False)
    for name, expression in expressions.items():
        try:
            folded = nodes.value_of(Builder(expression, scope).node(expression.tree))
        except Mistake:
            continue
        if isinstance(folded, int):
            names.integers[name] = sets.get(name, folded)
            names.broken.discard(name)


def _argument(
    name: str, expression: Expression, dims: Numbers[str, Place], names: Names
) -> tuple[Constant, ...]:
    """The constant as an argument of the op, or nothing for an integer."""
    place = names.places[name]
    if name in names.integers:
        if name in dims and names.integers[name] < 1:
            names.broken.add(name)
            found = f"the dimension `{name}` is fixed to {names.integers[name]}"
            raise Mistake(place, found, "a size of at least 1")
        return ()

    earlier = _before(name, names)

    def value(read: str, at: Place) -> Node:
        if names.kinds.get(read) == "constant" and read not in earlier and read not in dims:
            found = f"`{read}` is not defined yet"
            raise Mistake(at, found, "numbers, dimensions and the constants above this one")
        return constant_value(names, read, at)

    scope = Scope(value, names.size, CONSTANT_FUNCTIONS, _WHERE, arrays=False)
    node = Builder(expression, scope).node(expression.tree)
    if name in dims:
        raise Mistake(place, f"the dimension `{name}` is fixed by no integer", f"`{name}: 64`")
    names.floats[name] = node
    names.broken.discard(name)
    return (Constant(name, node),)


def _before(name: str, names: Names) -> frozenset[str]:
    """The names declared before a constant."""
    declared = list(names.kinds)
    return frozenset(declared[: declared.index(name)])


def constant_value(names: Names, name: str, place: Place) -> Node:
    """The leaf that a constant or a dimension is in an expression; unknown names raise."""
    names.check(name, place)
    if name in names.integers:
        return nodes.number(names.integers[name], place)
    if name in names.dims:
        return nodes.size(names.size(name, place), place)
    if name in names.floats:
        return Node("constant", (), (name,), (), place)
    raise names.unknown(name, place, [*names.integers, *names.floats, *names.dims])
