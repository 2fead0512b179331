"""What holds for the text of every kernel, whatever it computes."""

import ast

import pytest
from op_cases import NAMES

from lincodegen.resources import generated_dir

FUNCTIONS = frozenset(
    [
        "arange",
        "cdiv",
        "constexpr",
        "cumsum",
        "dot",
        "exp2",
        "float32",
        "floor",
        "int32",
        "int64",
        "load",
        "max",
        "minimum",
        "program_id",
        "reshape",
        "store",
        "sum",
        "trans",
        "where",
        "zeros",
    ]
)
LOOP_FUNCTIONS = frozenset(
    [
        "arange",
        "constexpr",
        "debug_barrier",
        "exp",
        "exp2",
        "float32",
        "float64",
        "int64",
        "load",
        "log",
        "log1p",
        "max",
        "maximum",
        "minimum",
        "program_id",
        "rsqrt",
        "sigmoid",
        "sqrt",
        "store",
        "sum",
        "where",
        "zeros",
        "floor",
        "abs",
        "cdiv",
    ]
)
LITERALS = {0.0, 0.5, 1.0, -1.0, 256.0, 1 / 256}
WIDE, LARGE, SMALL = "int64", "int32 that grows with the call", "bounded"
ROLES = ("prep", "decay", "scan", "states", "summary", "output", "gradient", "scans", "clocks")


def kernels_in(name, file="kernels.py"):
    """What is launched."""
    return [node for node in functions_in(name, file) if node.name.endswith("_kernel")]


def functions_in(name, file="kernels.py"):
    """Kernels, and the roles that some call."""
    tree = ast.parse((generated_dir() / name / file).read_text())
    return [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.endswith(("_kernel", "_role"))
    ]


def kernel_files():
    files = ("kernels.py", "recurrent_kernels.py", "step_kernels.py")
    return [
        (name, file) for name in NAMES for file in files if (generated_dir() / name / file).exists()
    ]


every_kernel_file = pytest.mark.parametrize(("name", "file"), kernel_files())
every_op = pytest.mark.parametrize("name", NAMES)


def grids_in(name, file):
    """The tuples that kernels are launched with."""
    tree = ast.parse((generated_dir() / name / file).read_text())
    for function in (x for x in tree.body if isinstance(x, ast.FunctionDef)):
        named = {
            x.targets[0].id: x.value
            for x in ast.walk(function)
            if isinstance(x, ast.Assign) and isinstance(x.targets[0], ast.Name)
        }
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript):
                grid = node.func.slice
                yield named[grid.id] if isinstance(grid, ast.Name) else grid


def called(node):
    """The name after ``tl.`` of a call, else None."""
    function = node.func if isinstance(node, ast.Call) else None
    if isinstance(function, ast.Attribute) and ast.unparse(function.value) == "tl":
        return function.attr
    return None


class Widths:
    """How wide the integers of a kernel are: a product must be int64 before it can overflow.

    Bounded are tile indices, sizes of a head and counts of heads; what grows with batch or
    length is int32 until it is cast. A token's index, ``i_t * BT``, is below the length.
    """

    def __init__(self, kernel):
        self.faults = []
        self.known = {"T": LARGE, "NT": LARGE, "NR": LARGE, "i_bh": LARGE, "chunk": SMALL}
        self.visit(kernel.body)

    def visit(self, body):
        for statement in body:
            if isinstance(statement, ast.Assign):
                self.assign(statement.targets[0], statement.value)
            elif isinstance(statement, ast.For):
                self.known[statement.target.id] = self.of_range(statement.iter)
                self.visit(statement.body)
            elif isinstance(statement, ast.If):
                self.visit([*statement.body, *statement.orelse])
            elif isinstance(statement, ast.Expr) and called(statement.value) == "store":
                self.of(statement.value.args[0])

    def assign(self, target, value):
        if isinstance(target, ast.Tuple):
            if isinstance(value, ast.Tuple):
                for left, right in zip(target.elts, value.elts, strict=True):
                    self.assign(left, right)
            elif "place_of_" in ast.unparse(value):
                # a first row, in int64; tokens of the sequence; a chunk's number
                self.known |= dict(
                    zip(map(ast.unparse, target.elts), (WIDE, LARGE, SMALL), strict=True)
                )
        elif isinstance(target, ast.Name):
            self.known[target.id] = self.of(value)

    def of_range(self, node):
        sizes = [self.of(x) for x in getattr(node, "args", [])]
        return next((size for size in (WIDE, LARGE) if size in sizes), SMALL)

    def of(self, node):
        match node:
            case ast.Name():
                return self.known.get(node.id, SMALL)
            case ast.Subscript():
                return self.of(node.value)
            case ast.UnaryOp():
                return self.of(node.operand)
            case ast.BinOp():
                return self.of_operation(node)
            case ast.Call():
                return self.of_call(node)
        return SMALL

    def of_operation(self, node):
        sizes = {self.of(node.left), self.of(node.right)}
        if isinstance(node.op, ast.Mod):
            return self.of(node.right)
        if WIDE in sizes:
            return WIDE
        is_large = isinstance(node.op, ast.Mult) and LARGE in sizes
        if is_large and ast.unparse(node) != "i_t * BT":
            self.faults.append(ast.unparse(node))
        return LARGE if LARGE in sizes else SMALL

    def of_call(self, node):
        name = called(node)
        if name == "program_id":
            return SMALL if node.args[0].value else LARGE  # the other axes cover a head
        if name == "cdiv":
            return LARGE if LARGE in map(self.of, node.args) else SMALL
        if name == "load" and "cu_seqlens" in ast.unparse(node):
            return WIDE  # the launcher makes them int64
        if name in ("load", "minimum"):
            sizes = [self.of(x) for x in node.args]
            return WIDE if name == "minimum" and WIDE in sizes else SMALL
        if isinstance(node.func, ast.Attribute) and node.func.attr == "to":
            inner = self.of(node.func.value)
            return WIDE if ast.unparse(node.args[0]) == "tl.int64" else inner
        return SMALL


@every_kernel_file
def test_offsets_are_wide_before_they_are_multiplied(name, file):
    for kernel in functions_in(name, file):
        assert Widths(kernel).faults == [], kernel.name
    if file == "recurrent_kernels.py":
        assert "cu_seqlens.to(torch.int64)" in (generated_dir() / name / file).read_text()


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("i = tl.program_id(0)\nx = i * H", ["i * H"]),
        ("i = tl.program_id(0).to(tl.int64)\nx = i * H", []),
        ("i = tl.program_id(0)\nx = (i * H).to(tl.int64)", ["i * H"]),
        ("x = p.to(tl.int64) * (NR * T)", ["NR * T"]),
        ("x = p.to(tl.int64) * NR", []),
        ("NT = tl.cdiv(T, BT)\ni_t = tl.program_id(0) % NT\nx = i_t * BT + tl.arange(0, BT)", []),
        ("NT = tl.cdiv(T, BT)\nfor i in range(NT):\n    x = i * K", ["i * K"]),
    ],
)
def test_the_analysis_of_widths(text, faults):
    body = "\n".join(f"    {line}" for line in text.splitlines())
    assert Widths(ast.parse(f"def kernel(T):\n{body}").body[0]).faults == faults


@every_kernel_file
def test_only_known_functions_of_triton(name, file):
    allowed = FUNCTIONS if file == "kernels.py" else LOOP_FUNCTIONS
    for kernel in functions_in(name, file):
        used = {
            node.attr
            for node in ast.walk(kernel)
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "tl"
        }
        assert used <= allowed, kernel.name


@every_kernel_file
def test_no_atomics(name, file):
    assert "atomic" not in (generated_dir() / name / file).read_text()


@every_op
def test_grids_have_one_axis(name):
    """Only the first axis of a grid may be longer than 65,535."""
    for kernel in kernels_in(name):
        axes = [node.args[0].value for node in ast.walk(kernel) if called(node) == "program_id"]
        assert set(axes) == {0}, kernel.name
    grids = list(grids_in(name, "kernels.py"))
    assert grids
    assert all(len(grid.elts) == 1 for grid in grids)


@every_kernel_file
def test_first_axis_of_the_grid_alone_grows_with_the_call(name, file):
    found = list(grids_in(name, file))
    assert found
    for grid in found:
        for extent in grid.elts[1:]:
            names = {x.id for x in ast.walk(extent) if isinstance(x, ast.Name)}
            assert names <= {"triton", "min", "K", "V", "M", "config"}, ast.unparse(extent)


def factors(node):
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return [*factors(node.left), *factors(node.right)]
    return [node]


@every_op
def test_masks_come_before_exponentials(name):
    """A power of two that may be infinite is never multiplied by a mask: inf * 0 is NaN."""
    for kernel in functions_in(name):
        for node in ast.walk(kernel):
            if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)):
                continue
            parts = factors(node)
            if any(called(part) == "exp2" for part in parts):
                names = {x.id for p in parts for x in ast.walk(p) if isinstance(x, ast.Name)}
                assert not any(n.startswith("m_") for n in names), ast.unparse(node)


@every_op
def test_pairs_of_points_are_masked(name):
    """A decay between two points is a power of two inside ``where``: later pairs are infinite."""
    for kernel in functions_in(name):
        inside = {
            id(inner)
            for node in ast.walk(kernel)
            if called(node) == "where"
            for inner in ast.walk(node)
        }
        for node in ast.walk(kernel):
            text = ast.unparse(node) if called(node) == "exp2" else ""
            if "[:, None]" in text and "[None, :]" in text:
                assert id(node) in inside, text


@every_op
def test_numbers_are_few(name):
    """No number but those of clock and masks: log2 e has a name, constants are arguments."""
    for kernel in functions_in(name):
        for node in ast.walk(kernel):
            if isinstance(node, ast.Constant) and isinstance(node.value, float):
                assert node.value in LITERALS, (kernel.name, node.value)


@every_op
def test_names_of_kernels(name):
    for kernel in kernels_in(name):
        rest = kernel.name.removeprefix(f"{name}_").removesuffix("_kernel")
        *state, role, direction = rest.split("_")
        assert role in ROLES, kernel.name
        assert direction in ("fwd", "bwd"), kernel.name
        assert len(state) <= 1, kernel.name
        assert ast.get_docstring(kernel), kernel.name


@every_op
def test_every_role_is_called_by_one_kernel(name):
    roles = {f.name for f in functions_in(name)} - {k.name for k in kernels_in(name)}
    calls = [
        node.func.id
        for kernel in kernels_in(name)
        for node in ast.walk(kernel)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert sorted(c for c in calls if c.endswith("_role")) == sorted(roles)


@every_op
def test_lengths_compile_once(name):
    """T is not specialised: 16 and 17 tokens, and 1, are one kernel."""
    for kernel in kernels_in(name):
        (decorator,) = kernel.decorator_list
        lengths = "'T', 'N'" if kernel.name.endswith("clocks_bwd_kernel") else "'T'"
        assert ast.unparse(decorator) == f"triton.jit(do_not_specialize=[{lengths}])"


@every_op
def test_every_kernel_is_launched(name):
    text = (generated_dir() / name / "kernels.py").read_text()
    for kernel in kernels_in(name):
        assert f"{kernel.name}[" in text, kernel.name


@every_op
@pytest.mark.parametrize("file", ["kernels.py", "step_kernels.py"])
def test_no_value_is_computed_for_nothing(name, file):
    """Every name that a kernel assigns is read later on."""
    for kernel in functions_in(name, file):
        stored = {
            node.id
            for node in ast.walk(kernel)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        read = {
            node.id
            for node in ast.walk(kernel)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
        assert stored - read <= {"_"}, kernel.name


def test_there_are_kernels():
    """What is said of every kernel is said of some."""
    assert min(len(kernels_in(name)) for name in NAMES) >= 5
    texts = [ast.unparse(kernel) for name in NAMES for kernel in kernels_in(name)]
    assert sum("exp2" in text for text in texts) > 50
    assert sum("[:, None] - " in text for text in texts) > 5
    assert sum("decayed_dot(" in text for text in texts) > 10
