"""One kernel of the token loop: names, loads, statements and stores as lines of Triton."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from lincodegen.emit.token_device import DeviceProgram, Load, Store
from lincodegen.emit.token_padding import Pad
from lincodegen.emit.token_python import WIDTH, product_text, words
from lincodegen.emit.token_tiles import TileAxes, numel
from lincodegen.emit.token_triton_expression import TileExpressions
from lincodegen.emit.token_triton_ops import PRINTERS
from lincodegen.program.token import Statement, TokenProgram
from lincodegen.program.token_names import Names
from lincodegen.program.token_shapes import ONE
from lincodegen.program.token_split import split_statements
from lincodegen.spec.dims import Dim
from lincodegen.spec.step import Node, Shape

INDENT = 12


class Home(Enum):
    """Where a tensor's entry for this program and token begins, in entries of its shape."""

    TOKEN = "row"
    PARAMETER = ""
    STATE = "i_n"
    KEPT = "i_c"
    SCRATCH = "(i_nh * chunk + i_r)"
    PARTIAL = "i_nh"


@dataclass(frozen=True, slots=True)
class Array:
    """A tensor of a kernel.

    ``heads`` names the constexpr of its head count, None where it has all heads; ``sparse``
    tells that a program writes (or reads, if a cotangent) it only for the first of its heads.
    """

    pointer: str
    shape: Shape
    home: Home
    heads: str | None = None
    sparse: bool = False

    @property
    def base(self) -> str:
        """The index of the entry, in entries of the shape."""
        if self.home in {Home.SCRATCH, Home.PARTIAL}:
            return self.home.value
        head = "i_h" if self.heads is None else f"i_h // (H // {self.heads})"
        count = self.heads or "H"
        return f"({self.home.value} * {count} + {head})" if self.home.value else f"({head})"

    @property
    def start(self) -> str:
        """The pointer to the entry."""
        size = numel(self.shape)
        factor = "" if size == ONE else f" * {product_text(size)}"
        base = self.base if factor else self.base.removeprefix("(").removesuffix(")")
        base = self.base if self.home is Home.SCRATCH else base
        return f"{self.pointer} + {base}{factor}"


class KernelLines:
    """Prints the lines of one kernel; tiles of one name and shape share their name."""

    def __init__(self, names: Names, axes: TileAxes, split: Dim | None) -> None:
        self.names = names
        self.axes = axes
        self.split = split
        self.expressions = TileExpressions(axes, self._leaf, PRINTERS)
        self.constants: dict[str, str] = {}
        self._tiles: dict[tuple[str, Shape], str] = {}
        self._pointers: dict[str, str] = {}

    def tile(self, name: str, shape: Shape) -> str:
        """The variable that holds a value."""
        key = (name, shape)
        if key not in self._tiles:
            self._tiles[key] = self.names.free(f"b_{name}")
        return self._tiles[key]

    def load(self, target: str, array: Array, shape: Shape, start: Dim | None = None) -> str:
        """``target`` read from an array, zero in the padding."""
        mask = self._mask(array, shape, reads=True)
        options = f", mask={mask}, other=0.0" if mask else ""
        place = self._place(array, shape, start or Dim.of(0))
        return f"{target} = tl.load({place}{options}).to(tl.float32)"

    def store(self, array: Array, shape: Shape, value: str, start: Dim | None = None) -> str:
        """A tile written to an array, without its padding."""
        mask = self._mask(array, shape, reads=False)
        options = f", mask={mask}" if mask else ""
        return f"tl.store({self._place(array, shape, start or Dim.of(0))}, {value}{options})"

    def pointer_lines(self, arrays: Sequence[Array]) -> list[str]:
        """``p_`` variables of arrays, for the loads and stores that follow."""
        lines = []
        for array in arrays:
            name = self._pointers.setdefault(array.pointer, self.names.free(f"p_{array.pointer}"))
            lines.append(f"{name} = {array.start}")
        return lines

    def loads(self, program: DeviceProgram, arrays: dict[str, Array], home: Home) -> list[str]:
        """The loads of a program whose arrays have their place in ``home``."""
        lines, seen = [], set[str]()
        for load in program.loads:
            array = arrays.get(load.argument)
            if array is None or array.home is not home:
                continue
            if array.pointer not in seen:
                lines += self.pointer_lines([array])
                seen.add(array.pointer)
            lines.append(self._load(load, array))
        return lines

    def statements(self, program: DeviceProgram) -> list[str]:
        """The statements of a program, long ones in pieces."""
        whole = TokenProgram((), program.statements, (), tuple(self.names.taken))
        whole = split_statements(whole, lambda s: len(self._assignment(s)) <= WIDTH - INDENT)
        lines = []
        for statement in whole.statements:
            text = self.expressions.define(statement)
            lines.append(f"{self.tile(statement.name, statement.value.shape)} = {text}")
        return lines

    def value(self, node: Node) -> str:
        """The text of a stored or carried value."""
        return self.expressions.print(node)

    def carried(self, node: Node) -> str:
        """The text of a value that becomes a state: zero in its padding."""
        pads = self.expressions.pads(node)
        wrong = [axis for axis, pad in enumerate(pads) if pad is not Pad.ZERO]
        mask = self.axes.mask_text(node.shape, wrong)
        return f"tl.where({mask}, {self.value(node)}, 0.0)" if mask else self.value(node)

    def zeros(self, shape: Shape) -> str:
        """A tile of zeros, or the number."""
        if all(size == ONE for size in shape):
            return "0.0"
        return f"tl.zeros({self.axes.shape_text(shape)}, tl.float32)"

    def stores(self, stores: Sequence[Store], arrays: dict[str, Array]) -> list[str]:
        """The stores of outputs that are arrays."""
        lines, seen = [], set[str]()
        for store in stores:
            array = arrays.get(store.output)
            if array is None:
                continue
            if array.pointer not in seen:
                lines += self.pointer_lines([array])
                seen.add(array.pointer)
            value = self.value(store.value)
            lines.append(self.store(array, store.value.shape, value, store.start))
        return lines

    def _assignment(self, statement: Statement) -> str:
        return f"b_{statement.name} = {self.expressions.print(statement.value)}"

    def _load(self, load: Load, array: Array) -> str:
        target = self.tile(str(load.node.attr[0]), load.node.shape)
        return self.load(target, array, load.node.shape, load.start)

    def _leaf(self, node: Node) -> str:
        name = str(node.attr[0])
        if node.op == "constant":
            return self.constants.setdefault(name, self.names.free(name))
        return self.tile(name, node.shape)

    def _place(self, array: Array, shape: Shape, start: Dim) -> str:
        pointer = self._pointers[array.pointer]
        offsets = self.axes.offset_text(shape, start)
        return f"{pointer} + {offsets}" if offsets else pointer

    def _mask(self, array: Array, shape: Shape, reads: bool) -> str:
        tile, others = self.axes.mask_text(shape), []
        if array.sparse:
            others.append(f"i_h % (H // {array.heads}) == 0")
        if self.split is not None and self.split not in shape and not reads:
            others.append("tl.program_id(1) == 0")
        if not tile and len(others) == 1:
            return others[0]
        return " & ".join([*([tile] if tile else []), *(f"({other})" for other in others)])

    def advance(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """Assignments of carried variables, at once where one reads another's old value."""
        targets = [target for target, _ in pairs]
        values = [value for _, value in pairs]
        late = [t for i, t in enumerate(targets) for v in values[i + 1 :] if t in words(v)]
        if late:
            return [f"{', '.join(targets)} = {', '.join(values)}"]
        return [f"{target} = {value}" for target, value in pairs if target != value]


def mixes(node: Node, dim: Dim) -> bool:
    """Whether a value brings entries of different positions on an axis together."""
    return dim in _mixed(node) or (len(node.shape) == 2 and node.shape[0] == node.shape[1] == dim)


def _mixed(node: Node) -> Shape:
    """The dimensions that an operation does not act on position by position."""
    operand = node.args[0].shape if node.args else ()
    match node.op:
        case "sum" | "mean":
            axis = node.attr[0]
            return operand if axis is None else operand[int(str(axis)) :][:1]
        case "cumsum" | "rcumsum" | "softmax":
            return operand[int(str(node.attr[0])) :][:1]
        case "matmul" | "dot":
            return operand[-1:]
        case "ravel" | "unravel" | "diag" | "diagonal" | "eye":
            return (*operand, *node.shape)
        case "index" | "unindex" | "slice" | "unslice" | "concat" | "stack":
            return (*operand[:1], *node.shape[:1])
        case _:
            return ()


def dotted_dims(node: Node) -> Shape:
    """The dimensions of a product of two matrices, which ``tl.dot`` computes."""
    if node.op != "matmul" or any(len(arg.shape) != 2 for arg in node.args):
        return ()
    return (*node.args[0].shape, node.args[1].shape[1])
