"""The token program: loops unrolled, names resolved, every assignment one Assign."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lincodegen.spec import nodes
from lincodegen.spec.constants import constant_value
from lincodegen.spec.dims import Dim
from lincodegen.spec.expressions import Builder, Scope
from lincodegen.spec.names import Names
from lincodegen.spec.problems import Consequence, Mistake, Problems
from lincodegen.spec.shapes import shown
from lincodegen.spec.step import Assign, Node, Place, Shape
from lincodegen.spec.syntax import Program, Statement
from lincodegen.spec.vocabulary import FUNCTIONS, check_identifier

MAX_STATEMENTS = 4096

_WHERE = "the step language"
_KEYWORDS: dict[type[ast.stmt], str] = {
    ast.FunctionDef: "def",
    ast.ClassDef: "class",
    ast.ImportFrom: "import",
    ast.Delete: "del",
    ast.AnnAssign: "x: type = ...",
}
_LEAVES = {"input": "input", "parameter": "parameter", "state": "state"}


@dataclass(frozen=True, slots=True)
class Step:
    """The assignments in the order in which they run.

    ``targets`` are the names that the program assigns, in mistaken lines too; ``complete``
    tells that every line of the program could be read.
    """

    assigned: tuple[Assign, ...]
    targets: frozenset[str]
    complete: bool


def unroll(program: Program, names: Names, shapes: Mapping[str, Shape], problems: Problems) -> Step:
    """The assignments of a program, its loops unrolled.

    ``shapes`` are those of the inputs, parameters and states. Locals and loop variables are
    declared in ``names``.
    """
    unroller = _Unroller(program, names, shapes, problems)
    unroller.run(program.statements)
    targets = _targets(program.statements)
    return Step(tuple(unroller.assigned), targets, program.complete)


class _Unroller:
    """Runs through the statements and remembers what each name stands for."""

    def __init__(
        self, program: Program, names: Names, shapes: Mapping[str, Shape], problems: Problems
    ) -> None:
        self.assigned: list[Assign] = []
        self._complete = program.complete
        self._later = _targets(program.statements)
        self._current: dict[str, int] = {}
        self._names = names
        self._shapes = shapes
        self._problems = problems
        self._loops: dict[str, int] = {}
        self._passes = 0
        self._scope = Scope(self._value, self._size, FUNCTIONS, _WHERE, arrays=True)

    def run(self, statements: Sequence[Statement]) -> None:
        """Read statements one after another; a mistaken one leaves its name unknown."""
        for statement in statements:
            with self._problems.collecting():
                match statement.tree:
                    case ast.For():
                        self._loop(statement, statement.tree)
                    case ast.Assign() | ast.AugAssign():
                        self._assignment(statement, statement.tree)
                    case _:
                        raise _unknown(statement)

    def _assignment(self, statement: Statement, tree: ast.Assign | ast.AugAssign) -> None:
        targets = tree.targets if isinstance(tree, ast.Assign) else [tree.target]
        place = statement.place(targets[0])
        self._count(place)
        if len(targets) != 1 or not isinstance(targets[0], ast.Name):
            raise Mistake(place, "an assignment to no single name", "`name = expression`")
        name = targets[0].id
        try:
            self._check_target(name, place)
            value = self._assigned_value(statement, tree, name)
            self._check_state(name, value, statement.place(tree.value))
            self._shadow(name, place)
        except Mistake:
            self._names.broken.add(name)
            raise
        # a name assigned by mistake before is known again from here on
        self._names.broken.discard(name)
        self._current[name] = len(self.assigned)
        state = self._names.kinds[name] == "state"
        self.assigned.append(Assign(name, value, state, place))

    def _assigned_value(
        self, statement: Statement, tree: ast.Assign | ast.AugAssign, name: str
    ) -> Node:
        builder = Builder(statement, self._scope)
        if isinstance(tree, ast.Assign):
            return builder.node(tree.value)
        place = statement.place(tree.target)
        return builder.binary(self._value(name, place), tree.op, builder.node(tree.value), place)

    def _check_target(self, name: str, place: Place) -> None:
        kind = self._names.kinds.get(name)
        if kind is None:
            check_identifier(name, place)
            self._names.declare(name, "local", place)
        elif kind in ("dimension", "constant"):
            found = f"{self._names.described(name)} and cannot be assigned"
            raise Mistake(place, found, "a local's or a state's name")
        elif kind == "loop variable":
            raise Mistake(place, f"`{name}` is a loop variable already", "another name")

    def _check_state(self, name: str, value: Node, place: Place) -> None:
        if self._names.kinds[name] != "state" or name not in self._shapes:
            return
        if value.shape != self._shapes[name]:
            found = f"a value of the shape {shown(value.shape)} for the state `{name}`"
            hint = "states are assigned without broadcasting: `x + zeros(K, V)`"
            raise Mistake(place, found, f"the shape {shown(self._shapes[name])}", hint)

    def _shadow(self, name: str, place: Place) -> None:
        """From its assignment on, the name of an input or parameter is that of a local."""
        kind = self._names.kinds[name]
        if kind not in ("input", "parameter"):
            return
        if name not in self._names.read:
            raise Mistake(place, f"nothing reads the {kind} `{name}` before this line replaces it")
        self._names.kinds[name] = "local"
        self._names.places[name] = place
        self._names.read.discard(name)

    def _loop(self, statement: Statement, tree: ast.For) -> None:
        place = statement.place(tree.target)
        if not isinstance(tree.target, ast.Name) or tree.orelse:
            raise Mistake(place, "a loop over more than one name", "`for j in range(a, b):`")
        name = tree.target.id
        start, stop = self._range(statement, tree.iter)
        if self._names.kinds.get(name) != "loop variable":
            check_identifier(name, place)
            self._names.declare(name, "loop variable", place)
        elif name in self._loops:
            raise Mistake(place, f"`{name}` is the variable of an outer loop", "another name")
        body = statement.body or tuple(
            Statement(line, (), statement.text)
            for line in tree.body
            if not isinstance(line, ast.Pass)
        )
        try:
            for value in range(start, stop):
                self._count(place)
                self._loops[name] = value
                self.run(body)
        finally:
            self._loops.pop(name, None)

    def _range(self, statement: Statement, tree: ast.expr) -> tuple[int, int]:
        builder = Builder(statement, self._scope)
        match tree:
            case ast.Call(func=ast.Name(id="range"), args=[stop], keywords=[]):
                return 0, builder.integer(stop)
            case ast.Call(func=ast.Name(id="range"), args=[start, stop], keywords=[]):
                return builder.integer(start), builder.integer(stop)
            case _:
                expected = "`range(n)` or `range(a, b)`"
                raise Mistake(statement.place(tree), "a loop over this", expected)

    def _count(self, place: Place) -> None:
        """Count statements and loop passes; stop reading the file beyond the limit."""
        self._passes += 1
        if self._passes > 2 * MAX_STATEMENTS or len(self.assigned) >= MAX_STATEMENTS:
            found = f"more than {MAX_STATEMENTS} statements once loops are unrolled"
            self._problems.add(Mistake(place, found, "shorter loops"))
            self._problems.check()

    def _value(self, name: str, place: Place) -> Node:
        self._names.check(name, place)
        if name in self._loops:
            return nodes.number(self._loops[name], place)
        index = self._current.get(name)
        if index is not None:
            return Node("ref", (), (index,), self.assigned[index].value.shape, place)
        kind = self._names.kinds.get(name)
        if kind in _LEAVES:
            return Node(_LEAVES[kind], (), (name,), self._shapes[name], place)
        if kind in ("constant", "dimension"):
            return constant_value(self._names, name, place)
        if kind == "loop variable":
            raise Mistake(place, f"the loop over `{name}` has ended", "a name that is defined")
        raise self._unknown(name, place)

    def _size(self, name: str, place: Place) -> Dim:
        if name in self._loops:
            self._names.read.add(name)
            return Dim.of(self._loops[name])
        return self._names.size(name, place)

    def _unknown(self, name: str, place: Place) -> Mistake:
        if not self._complete and name not in FUNCTIONS:
            # a line that could not be read may have assigned it
            return Consequence(place)
        if name in self._later:
            return Mistake(place, f"`{name}` is read before the line that assigns it")
        known = [n for n in self._names.kinds if n not in self._names.broken]
        return self._names.unknown(name, place, known)


def _targets(statements: Sequence[Statement]) -> frozenset[str]:
    """Every name that a statement or loop assigns, mistaken or not."""
    found: set[str] = set()
    for statement in statements:
        names = (n for n in ast.walk(statement.tree) if isinstance(n, ast.Name))
        found |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
        found |= _targets(statement.body)
    return frozenset(found)


def _unknown(statement: Statement) -> Mistake:
    tree = statement.tree
    place = statement.place(tree)
    if isinstance(tree, (ast.If, ast.While)):
        hint = "`where(a < b, x, y)` chooses between values"
        return Mistake(place, "control flow on data", "assignments and loops over range", hint)
    if isinstance(tree, ast.Expr):
        return Mistake(place, "an expression whose value is lost", "`name = expression`")
    what = _KEYWORDS.get(type(tree), type(tree).__name__.lower())
    return Mistake(place, f"the statement `{what}`", "assignments and loops over range")
