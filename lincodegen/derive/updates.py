"""Reads the statements of one state as events: the step's affine part, in normal form."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce

from lincodegen.derive.affine import (
    Matrix,
    StateRead,
    Term,
    Value,
    WrongSide,
    rank1_terms,
    square_parts,
)
from lincodegen.derive.events import Decay, Event, Group, Rank1, Read
from lincodegen.derive.intervals import enclose, log_of
from lincodegen.derive.nodes import is_number, mul, neg, number, split_scalar, split_sign, times
from lincodegen.errors import NotChunkable
from lincodegen.spec.step import Assign, Node, Place, Recurrence, State


@contextmanager
def located(place: Place) -> Generator[None]:
    """Gives refusals inside the line of a statement, unless they have one."""
    try:
        yield
    except NotChunkable as error:
        if error.line:
            raise
        raise type(error)(error.reason, place.line) from error


def resolve(node: Node, recurrence: Recurrence) -> Node:
    """The input behind a ref, if a local is another name for (a row of) an input."""
    while node.op == "ref":
        value = recurrence.step[int(node.attr[0])].value
        inner = value.args[0] if value.op == "index" else value
        if inner.op not in ("input", "parameter", "ref", "number", "constant"):
            return node
        if value.op == "index":
            return replace(value, args=(resolve(inner, recurrence),))
        node = value
    return node


class UpdateReader:
    """Reads one state's updates as events."""

    def __init__(self, recurrence: Recurrence, state: State, flipped: bool, number_: int) -> None:
        """Of group ``number_``; ``flipped``: the state is held transposed."""
        self.recurrence, self.state, self.flipped = recurrence, state, flipped
        self.number = number_
        self.events: list[Event] = []
        self.reads: list[Read] = []
        self.held: dict[int, Matrix | Value] = {}
        self._dependent: dict[int, bool] = {}
        self._posted: dict[Node, Node] = {}

    def group(self) -> Group:
        """The group as far as it was read; all its events erase with one sign."""
        names = tuple(assign.name for assign in self.recurrence.step)
        solved = [e for e in self.events if isinstance(e, Rank1) and e.b is not None]
        first = next((e for e in solved if e.c is not None), solved[0] if solved else None)
        events = tuple(_signed(e, first.sign if first else 1) for e in self.events)
        return Group(self.state, self.flipped, events, tuple(self.reads), names)

    # -- dependence ------------------------------------------------------------------------

    def depends(self, node: Node) -> bool:
        """Whether an expression depends on the state."""
        if node.op == "state":
            return node.attr[0] == self.state.name
        if node.op == "ref":
            index = int(node.attr[0])
            if index not in self._dependent:
                self._dependent[index] = self.depends(self.recurrence.step[index].value)
            return self._dependent[index]
        return any(self.depends(arg) for arg in node.args)

    # -- updates ---------------------------------------------------------------------------

    def read_updates(self) -> None:
        """Turns every assignment of the state into events."""
        for index, assign in enumerate(self.recurrence.step):
            if assign.state and assign.name == self.state.name:
                with located(assign.place):
                    self._read_update(assign)
                self.held[index] = self._version()

    def _read_update(self, assign: Assign) -> None:
        value = self.affine(assign.value) if self.depends(assign.value) else None
        if not isinstance(value, Matrix) or value.base is None:
            raise NotChunkable("the state is overwritten by a value without its past")
        if value.flipped != self.flipped and len(self.state.shape) == 2:
            raise WrongSide("the state becomes its own transpose")
        self._update(value, assign.place)

    def _version(self) -> Matrix:
        return Matrix(len(self.events), (), (), self.flipped)

    def _update(self, value: Matrix, place: Place) -> None:
        """Appends the decays and rank-1 events of S <- value."""
        base = len(self.events)
        if value.base != base:
            raise NotChunkable("an earlier value of the state replaces later updates")
        for channel in (False, True):
            factors = [f for f in value.scale if bool(f.shape) == channel]
            factor = reduce(times, factors) if factors else None
            if factor is not None and not is_number(factor, 1):
                self._decay(factor, channel, place)
        settled = len(self.events)
        rows = [
            row
            for term in value.terms
            for row in self._rows(term, value.scale, (base, settled), place)
        ]
        self.events.extend(rows)

    def _decay(self, factor: Node, channel: bool, place: Place) -> None:
        log = log_of(factor, self.recurrence)
        if log is None:
            raise NotChunkable("a decay factor is not proved to be >= 0")
        low, high = enclose(log, self.recurrence)
        if channel and high > 0:
            raise NotChunkable(
                "a channel decay is not proved to be <= 1: give its input a domain, as [-inf, 0]"
            )
        self.events.append(Decay(factor, log, channel, low, place))

    def _rows(
        self, term: Term, scale: tuple[Node, ...], points: tuple[int, int], place: Place
    ) -> list[Rank1]:
        """The rank-1 events of a z^T, one a point that z reads from."""
        base, settled = points
        outer_scale, a = split_scalar(term.a)
        s = mul(outer_scale, term.z.factor)
        parts: dict[int, list[StateRead]] = {}
        for read in term.z.reads:
            late = read.base == base and read.scale == scale and base != settled
            if not late and read.scale:
                read = replace(read, b=reduce(times, read.scale, read.b), scale=())
            parts.setdefault(settled if late else read.base, []).append(read)
        rows: list[Rank1] = []
        const = term.z.const
        for point, reads in parts.items() or [(settled, [])]:
            rows.append(self._row(a, s, const, reads, point, place))
            const = None
        return rows

    def _row(
        self,
        a: Node,
        s: Node | None,
        const: Node | None,
        reads: list[StateRead],
        point: int,
        place: Place,
    ) -> Rank1:
        """One rank-1 event; signs go to ``sign`` and the value, never into a raw tile."""
        sign_s, s = split_sign(s)
        sign_c, c = split_sign(const)
        c = number(1) if const is not None and c is None else c
        if not reads:
            if sign_s * sign_c < 0 and c is not None:
                c = neg(c)
            if c is not None and c.shape:
                scale_c, c = split_scalar(c)
                sign_k, scale_c = split_sign(scale_c)
                s, c = mul(s, scale_c), c if sign_k > 0 else neg(c)
            if c is not None and not self.value_axis and s is not None:
                s, c = (s, c) if not is_number(c, 1) else (None, s)
            return Rank1(a, None, c, s, 1, point, place)
        if c is not None and sign_s * sign_c < 0:
            c = neg(c)
        if len(reads) == 1:
            sign_b, coef = split_sign(reads[0].coef)
            if const is None:
                s, b = mul(s, coef), reads[0].b
            else:
                b = times(coef, reads[0].b)
        else:
            sign_b, b = 1, reduce(_plus, [times(r.coef, r.b) for r in reads])
        scale_b, bare = split_scalar(b)
        if const is None and scale_b is not None:
            sign_k, scale_b = split_sign(scale_b)
            sign_b, s, b = sign_b * sign_k, mul(s, scale_b), bare
        b = resolve(b, self.recurrence)
        return Rank1(resolve(a, self.recurrence), b, c, s, sign_s * sign_b, point, place)

    @property
    def value_axis(self) -> bool:
        """Whether the state has a second axis."""
        return len(self.state.shape) == 2

    # -- the affine domain -----------------------------------------------------------------

    def affine(self, node: Node) -> Matrix | Value:
        """A state-dependent expression as a Matrix or a Value."""
        match node.op:
            case "state":
                return Matrix(0, (), (), self.flipped)
            case "ref":
                index = int(node.attr[0])
                if index not in self.held:
                    assign = self.recurrence.step[index]
                    with located(assign.place):
                        self.held[index] = self.affine(assign.value)
                return self.held[index]
            case "neg":
                inner = self.affine(node.args[0])
                return inner.negated if isinstance(inner, Matrix) else inner.times(number(-1))
            case "add" | "sub":
                return self._sum(node)
            case "mul" | "div":
                return self._product(node)
            case "transpose":
                inner = self._matrix(node.args[0])
                return replace(inner, flipped=not inner.flipped)
            case "outer":
                return self._outer(*node.args)
            case "matmul" | "dot":
                return self._matmul(*node.args)
            case "sum" | "mean":
                return self._summed(node)
        raise NotChunkable(f"`{node.op}` makes the update non-linear in {self.state.name}")

    def _matrix(self, node: Node) -> Matrix:
        value = self.affine(node)
        if not isinstance(value, Matrix):
            raise NotChunkable(f"a value read from {self.state.name} is used as a matrix")
        return value

    def _free_matrix(self, node: Node, flipped: bool) -> Matrix:
        """A state-free matrix (or vector, for a vector state) as terms."""
        if not self.value_axis:
            shape = self.state.shape
            if node.shape != shape:
                node = times(Node("ones", (), (), shape, node.place), node)
            return Matrix(None, (), (Term(node, Value(None, number(1), ())),), flipped)
        pairs = rank1_terms(self._inlined(node))
        terms = [(c, a) if flipped else (a, c) for a, c in pairs]
        return Matrix(None, (), tuple(Term(a, Value(None, c, ())) for a, c in terms), flipped)

    def _inlined(self, node: Node) -> Node:
        """The expression with its matrix-valued locals replaced by their values."""
        if node.op == "ref" and len(node.shape) == 2:
            return self._inlined(self.recurrence.step[int(node.attr[0])].value)
        if len(node.shape) < 2:
            return node
        return replace(node, args=tuple(self._inlined(a) for a in node.args))

    def _sum(self, node: Node) -> Matrix | Value:
        left, right = node.args
        values = [self.affine(a) if self.depends(a) else None for a in (left, right)]
        held = values[0] if values[0] is not None else values[1]
        if isinstance(held, Matrix):
            both = [
                v if isinstance(v, Matrix) else self._free_matrix(a, held.flipped)
                for v, a in zip(values, (left, right), strict=True)
            ]
            return both[0].plus(both[1].negated if node.op == "sub" else both[1])
        if any(isinstance(v, Matrix) for v in values):
            raise NotChunkable("a matrix is added to a vector read from the state")
        both_values = [
            v if isinstance(v, Value) else Value(None, a, ())
            for v, a in zip(values, (left, right), strict=True)
        ]
        second = both_values[1].times(number(-1)) if node.op == "sub" else both_values[1]
        return both_values[0].plus(second)

    def _product(self, node: Node) -> Matrix | Value:
        left, right = node.args
        if self.depends(left) and self.depends(right):
            raise NotChunkable(f"a product of two values that depend on {self.state.name}")
        held, factor = (left, right) if self.depends(left) else (right, left)
        if node.op == "div":
            if held is right:
                raise NotChunkable(f"a division by a value that depends on {self.state.name}")
            factor = Node("div", (number(1), factor), (), factor.shape, node.place)
        if held.op == "expand" or (len(held.shape) < len(node.shape)):
            return self._expanded_outer(held, factor)
        value = self.affine(held)
        if not factor.shape:
            return value.times(factor)
        if isinstance(value, Value):
            return value.gated(factor)
        return self._channel(value, factor)

    def _channel(self, value: Matrix, factor: Node) -> Matrix:
        """A matrix times a vector that broadcasts over its rows or columns."""
        if not self.value_axis:
            return value.rows_times(factor)
        if len(factor.shape) == 2 and factor.op != "expand":
            inner = self._inlined(factor)
            if inner.op != "expand":
                raise NotChunkable("the state is scaled elementwise by a full matrix")
            factor = inner
        over_rows = factor.op == "expand" and factor.attr[0] == 1
        channel = factor.args[0] if factor.op == "expand" else factor
        over_rows = over_rows != value.flipped
        return value.rows_times(channel) if over_rows else value.columns_times(channel)

    def _expanded_outer(self, held: Node, factor: Node) -> Matrix | Value:
        """x[:, None] * u for u read from the state: an outer product by broadcasting."""
        if held.op == "expand" and factor.op == "expand" and held.attr != factor.attr:
            first = held.attr[0] == 1
            return self._outer(*((held.args[0], factor.args[0])[:: 1 if first else -1]))
        if held.op != "expand" and factor.op == "expand" and factor.attr[0] == 1:
            return self._outer(factor.args[0], held)
        if held.op == "expand" and held.attr[0] == 1 and len(factor.shape) == 1:
            return self._outer(held.args[0], factor)
        if not held.shape and len(factor.shape) == 1:
            value = self.affine(held)
            if isinstance(value, Value) and not self.value_axis:
                return Matrix(None, (), (Term(factor, value),), self.flipped)
        raise NotChunkable(f"a value read from {self.state.name} is broadcast in no outer product")

    def _outer(self, left: Node, right: Node) -> Matrix:
        if self.depends(left) and self.depends(right):
            raise NotChunkable(f"an outer product of two values that depend on {self.state.name}")
        flipped = self.depends(left)
        if flipped != self.flipped:
            raise WrongSide("the transition acts on the other side of the state")
        value = self.affine(left if flipped else right)
        if not isinstance(value, Value):
            raise NotChunkable("an outer product of a matrix")
        return Matrix(None, (), (Term(right if flipped else left, value),), flipped)

    def _matmul(self, left: Node, right: Node) -> Matrix | Value:
        if self.depends(left) and self.depends(right):
            raise NotChunkable(f"a product of two values that depend on {self.state.name}")
        held = self._matrix(left if self.depends(left) else right)
        other = right if self.depends(left) else left
        if len(other.shape) == 2:
            return self._square(held, other, self.depends(left))
        if not self.value_axis:
            return held.read(other)
        contracts_rows = self.depends(left) == held.flipped
        if not contracts_rows:
            raise WrongSide("the update reads the state along its columns")
        return held.read(other)

    def _square(self, held: Matrix, other: Node, on_right: bool) -> Matrix:
        """A square state-free matrix times the state: eye, diag and outer products."""
        if not self.value_axis:
            raise NotChunkable("a matrix acts on a vector state")
        if on_right != held.flipped:
            raise WrongSide("a matrix acts on the columns of the state")
        result: Matrix | None = None
        for kind, left, right in square_parts(self._inlined(other)):
            match kind:
                case "scalar":
                    part = held if is_number(left, 1) else held.times(left)
                case "diag":
                    part = held.rows_times(left)
                case _:
                    a, b = (right, left) if on_right else (left, right)
                    part = Matrix(None, (), (Term(a, held.read(b)),), held.flipped)
            result = part if result is None else result.plus(part)
        if result is None:
            raise NotChunkable("the state is multiplied by zero")
        return result

    def _summed(self, node: Node) -> Value:
        """sum(M, axis): a read with a vector of ones."""
        held, axis = self._matrix(node.args[0]), node.attr[0]
        rows = held.flipped == (axis == 1) if self.value_axis else True
        if node.op == "mean" or (axis is None and self.value_axis) or not rows:
            raise NotChunkable(f"`{node.op}` of the state over this axis")
        size = node.args[0].shape[int(axis or 0)]
        return held.read(Node("ones", (), (), (size,), node.place))


def _plus(a: Node, b: Node) -> Node:
    return Node("add", (a, b), (), a.shape, a.place)


def _signed(event: Event, sign: int) -> Event:
    """The same event with a sign; z = s (c - S^T b) is also (-s) (-c + S^T b)."""
    if isinstance(event, Decay) or event.b is None or event.sign == sign:
        return event
    c = None if event.c is None else neg(event.c)
    return replace(event, sign=sign, s=neg(event.s or number(1)), c=c)
