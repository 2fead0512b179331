"""Exact arithmetic for proofs: a step's expressions over dual residues or polynomials.

An element is either a Dual, a value modulo a prime with a first-order perturbation, or an
element of a sympy polynomial ring. Arrays hold elements as Python objects, so that NumPy's
``+ * @`` and einsum are exact. A function that is no polynomial is an oracle: the same
function of equal arguments is the same unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np

from lincodegen.spec.step import Node, Recurrence

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Dual:
    """value + epsilon * slope modulo a prime, epsilon^2 = 0."""

    value: int
    slope: int
    prime: int

    def _of(self, other: Dual | int) -> Dual:
        return other if isinstance(other, Dual) else Dual(other % self.prime, 0, self.prime)

    def __add__(self, other: Dual | int) -> Dual:
        if isinstance(other, np.ndarray):
            return NotImplemented
        y = self._of(other)
        p = self.prime
        return Dual((self.value + y.value) % p, (self.slope + y.slope) % p, p)

    __radd__ = __add__

    def __neg__(self) -> Dual:
        return Dual(-self.value % self.prime, -self.slope % self.prime, self.prime)

    def __sub__(self, other: Dual | int) -> Dual:
        if isinstance(other, np.ndarray):
            return NotImplemented
        return self + (-self._of(other))

    def __rsub__(self, other: Dual | int) -> Dual:
        if isinstance(other, np.ndarray):
            return NotImplemented
        return self._of(other) + (-self)

    def __mul__(self, other: Dual | int) -> Dual:
        if isinstance(other, np.ndarray):
            return NotImplemented
        y, p = self._of(other), self.prime
        slope = (self.value * y.slope + self.slope * y.value) % p
        return Dual(self.value * y.value % p, slope, p)

    __rmul__ = __mul__

    def inverse(self) -> Dual:
        """1 / x; the value is not zero but with probability 1 / prime."""
        p = self.prime
        inverse = pow(self.value, -1, p)
        return Dual(inverse, -self.slope * inverse * inverse % p, p)


@dataclass(slots=True)
class Residues:
    """Unknowns as pseudo-random duals modulo a prime, the same for the same key."""

    prime: int
    seed: int

    def unknown(self, key: str) -> Dual:
        """The value of an unknown."""
        digest = sha256(f"{self.seed}|{key}".encode()).digest()
        p = self.prime
        value = int.from_bytes(digest[:12], "big") % (p - 1) + 1
        return Dual(value, int.from_bytes(digest[12:24], "big") % p, p)

    def element(self, number: int) -> Dual:
        """An integer as an element."""
        return Dual(number % self.prime, 0, self.prime)

    def function(self, op: str, args: tuple[Any, ...]) -> Dual:
        """An oracle's answer; a function of constants is constant."""
        answer = self.unknown(f"{op}({', '.join(f'{a.value}:{a.slope}' for a in args)})")
        return answer if any(a.slope for a in args) else self.constant(answer)

    def constant(self, x: Dual) -> Dual:
        """The value without its slope."""
        return Dual(x.value, 0, x.prime)

    def divided(self, x: Dual, y: Dual) -> Dual:
        """x / y."""
        return x * y.inverse()


class TooManyUnknowns(Exception):
    """A polynomial ring has no generator left."""


@dataclass(slots=True)
class Polynomials:
    """Unknowns as generators of a polynomial ring, handed out in order of first use."""

    generators: list[Any]
    one: Any
    known: dict[str, Any] = field(default_factory=dict)

    def unknown(self, key: str) -> Any:
        """The generator of a key."""
        if key not in self.known:
            if len(self.known) == len(self.generators):
                raise TooManyUnknowns
            self.known[key] = self.generators[len(self.known)]
        return self.known[key]

    def element(self, number: int) -> Any:
        """An integer as a polynomial."""
        return self.one * number

    def function(self, op: str, args: tuple[Any, ...]) -> Any:
        """A fresh generator for every distinct application."""
        return self.unknown(f"{op}({', '.join(map(str, args))})")

    def constant(self, x: Any) -> Any:
        """The element itself."""
        return x

    def divided(self, x: Any, y: Any) -> Any:
        """x times an oracle: reciprocals are no polynomials."""
        return x * self.function("reciprocal", (y,))


Field = Residues | Polynomials


@dataclass(slots=True)
class Evaluator:
    """Evaluates a recurrence's expressions at one token.

    ``reads`` gives the value of a ``read`` leaf, ``states`` of a state before the token.
    """

    recurrence: Recurrence
    ring: Field
    sizes: Mapping[str, int]
    token: int
    states: Mapping[str, Array] = field(default_factory=dict)
    reads: Callable[[tuple[int, int]], Array] | None = None
    memo: dict[Node, Array] = field(default_factory=dict)

    def __call__(self, node: Node) -> Array:
        """The value, an object array of the node's shape."""
        if node not in self.memo:
            self.memo[node] = np.asarray(self._value(node), dtype=object)
        return self.memo[node]

    def shape(self, node: Node) -> tuple[int, ...]:
        """The sizes of a node's axes."""
        return tuple(d.evaluate(self.sizes) for d in node.shape)

    def _unknowns(self, key: str, shape: tuple[int, ...]) -> Array:
        cells = [self.ring.unknown(f"{key}{list(i)}") for i in np.ndindex(*shape)]
        out = np.empty(len(cells), dtype=object)
        out[:] = cells
        return out.reshape(shape)

    def _leaf(self, node: Node) -> Array | Any:
        name: Any = node.attr[0] if node.attr else None
        match node.op:
            case "input":
                return self._unknowns(f"{name}@{self.token}", self.shape(node))
            case "parameter":
                return self._unknowns(str(name), self.shape(node))
            case "constant":
                return self.ring.constant(self.ring.unknown(str(name)))
            case "state":
                return self.states[str(name)]
            case "ref":
                return self(self.recurrence.step[int(name)].value)
            case "read" if self.reads is not None:
                return self.reads((int(node.attr[0]), int(node.attr[1])))
            case "number" if float(name) == int(float(name)):
                return self.ring.element(int(float(name)))
            case "number":
                # a rewrite may have turned a sign: -x is the opposite of x, whatever x is
                found = self.ring.constant(self.ring.unknown(f"number {abs(float(name))}"))
                return -found if float(name) < 0 else found
            case "size":
                return self.ring.constant(self.ring.unknown(f"size {name}"))
        return self._constant(node)

    def _constant(self, node: Node) -> Array:
        out = np.empty(self.shape(node), dtype=object)
        for i in np.ndindex(*out.shape):
            out[i] = self.ring.element(
                int(node.op == "ones" or (node.op == "eye" and len(set(i)) == 1))
            )
        return out

    def _value(self, node: Node) -> Array | Any:
        if not node.args:
            return self._leaf(node)
        args = [self(a) for a in node.args]
        match node.op:
            case "add":
                return args[0] + args[1]
            case "sub":
                return args[0] - args[1]
            case "mul":
                return args[0] * args[1]
            case "neg":
                return -args[0]
            case "div":
                return np.frompyfunc(self.ring.divided, 2, 1)(*args)
            case "matmul" | "dot":
                return args[0] @ args[1]
            case "outer":
                return np.multiply.outer(args[0], args[1])
            case "transpose":
                return args[0].T
            case "diag":
                return _diagonal(args[0], self.ring.element(0))
            case "index":
                return args[0][node.attr[0]]
            case "slice":
                start, stop = (d.evaluate(self.sizes) for d in node.attr)
                return args[0][start:stop]
            case "expand":
                return np.expand_dims(args[0], int(node.attr[0]))
            case "ravel":
                return args[0].reshape(-1)
            case "concat":
                return np.concatenate(args)
            case "sum":
                return args[0].sum(axis=node.attr[0])
        return self._oracle(node, args)

    def _oracle(self, node: Node, args: list[Array]) -> Array | Any:
        """A function that is no polynomial: elementwise, or of all its arguments' entries."""
        label = f"{node.op}{[str(a) for a in node.attr]}"
        shape = self.shape(node)
        if node.op in _WHOLE:
            everything = tuple(x for a in args for x in np.ravel(a))
            out = np.empty(shape, dtype=object)
            for i in np.ndindex(*shape):
                out[i] = self.ring.function(f"{label}{list(i)}", everything)
            return out
        spread = np.broadcast_arrays(*args)
        out = np.empty(spread[0].shape, dtype=object)
        for i in np.ndindex(*out.shape):
            out[i] = self.ring.function(label, tuple(a[i] for a in spread))
        return out if shape else out[()]


_WHOLE = frozenset({"mean", "cumsum", "softmax", "l2norm", "rmsnorm", "layernorm"})


def _diagonal(vector: Array, zero: Any) -> Array:
    out = np.empty((len(vector), len(vector)), dtype=object)
    out[...] = zero
    for i, x in enumerate(vector):
        out[i, i] = x
    return out
