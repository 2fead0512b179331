"""What the text of kernels may never say, whatever they compute; found by its shape."""

import ast
import inspect

import pytest
import torch
from op_cases import NAMES

from lincodegen.resources import generated_dir
from lincodegen.runtime import tiles
from lincodegen.runtime.chunks import running_sum

FILES = ("kernels.py", "recurrent_kernels.py")
every_op = pytest.mark.parametrize("name", NAMES)


def kernels_in(text):
    return [
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.name.endswith("_kernel")
    ]


def texts_of(name):
    return [(generated_dir() / name / file).read_text() for file in FILES]


def calls(node, *names):
    """The calls of ``tl.NAME`` below a node."""
    return [
        x
        for x in ast.walk(node)
        if isinstance(x, ast.Call)
        and isinstance(x.func, ast.Attribute)
        and x.func.attr in names
        and ast.unparse(x.func.value) == "tl"
    ]


def split_decays(kernel):
    """Powers of a negated clock, and divisions by a power: exp(a - b) as exp(a) exp(-b)."""
    found = []
    for node in calls(kernel, "exp", "exp2"):
        if isinstance(node.args[0], ast.UnaryOp) and isinstance(node.args[0].op, ast.USub):
            found.append(ast.unparse(node))
    for node in ast.walk(kernel):
        divides = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
        if divides and calls(node.right, "exp", "exp2"):
            found.append(ast.unparse(node))
    return found


def reversed_by_difference(kernel):
    """A total minus a running sum: the sum of a suffix whose digits the prefix has taken.

    The clock is exact: its whole parts are multiples of 1/256 and its rests are small.
    """
    sums, running = set(), set()
    for node in ast.walk(kernel):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            clock = "_whole" in ast.unparse(node.value)
            if calls(node.value, "cumsum") and not clock:
                running.add(node.targets[0].id)
            elif calls(node.value, "sum") and not clock:
                sums.add(node.targets[0].id)
    found = []
    for node in ast.walk(kernel):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
            left = {x.id for x in ast.walk(node.left) if isinstance(x, ast.Name)}
            right = {x.id for x in ast.walk(node.right) if isinstance(x, ast.Name)}
            total = left & sums or calls(node.left, "sum")
            if total and (right & running or calls(node.right, "cumsum")):
                found.append(ast.unparse(node))
    return found


def unplanned_stores(kernel):
    """Stores that cast to anything but the type of what they write to, or that of dots."""
    found = []
    for node in calls(kernel, "store"):
        pointer, value = node.args[0], node.args[1]
        cast = [
            x
            for x in ast.walk(value)
            if isinstance(x, ast.Call) and isinstance(x.func, ast.Attribute) and x.func.attr == "to"
        ]
        base = ast.unparse(pointer).split()[0]
        allowed = (f"{base}.dtype.element_ty", "dtype", "tl.float32")
        found += [ast.unparse(x) for x in cast if ast.unparse(x.args[0]) not in allowed]
    return found


RULES = (split_decays, reversed_by_difference, unplanned_stores)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.__name__)
@every_op
def test_no_kernel_says(name, rule):
    for text in texts_of(name):
        for kernel in kernels_in(text):
            assert rule(kernel) == [], kernel.name


@pytest.mark.parametrize(
    ("rule", "body"),
    [
        (split_decays, "x = tl.exp2(a) * tl.exp2(-b)"),
        (split_decays, "x = tl.exp2(a) / tl.exp2(b)"),
        (reversed_by_difference, "x = tl.sum(g, 0) - tl.cumsum(g, 0)"),
        (reversed_by_difference, "s = tl.sum(g, 0)\n    c = tl.cumsum(g, 0)\n    x = s - c + g"),
        (unplanned_stores, "tl.store(o + i, x.to(tl.bfloat16))"),
    ],
)
def test_the_rules_find_what_they_are_for(rule, body):
    assert rule(kernels_in(f"def a_kernel(a, b, g, o, i, x):\n    {body}\n")[0])


@every_op
def test_running_sums_of_gradients_run_backward(name):
    """The sum of a suffix is a scan from the end."""
    scans = [
        ast.unparse(node)
        for kernel in kernels_in(texts_of(name)[0])
        if kernel.name.endswith("_bwd_kernel")
        for node in calls(kernel, "cumsum")
        if "_whole" not in ast.unparse(node)
    ]
    # a count of tokens has no digits to lose
    whole = [scan for scan in scans if "to(tl.int32)" not in scan]
    assert all("reverse=True" in scan or "where(s_" in scan for scan in whole), scans


def test_the_triangular_solve_is_in_full_precision():
    """Unless a configuration, which a device's gate has passed, asks for three products of tf32."""
    tree = ast.parse(inspect.getsource(tiles))
    names = ("_merged_16", "unit_lower_inverse")
    functions = [x for x in tree.body if isinstance(x, ast.FunctionDef) and x.name in names]
    dots = [ast.unparse(node) for function in functions for node in calls(function, "dot")]
    assert len(dots) == 4
    assert all("precision='ieee'" in dot or "precision=PRECISION" in dot for dot in dots)
    chosen = "PRECISION: tl.constexpr = 'tf32x3' if METHOD == 'tf32x3' else 'ieee'"
    assert chosen in ast.unparse(functions[-1])


def test_the_sum_of_a_suffix_keeps_its_digits():
    """A prefix of 1e8 before a suffix of ones: no digit of the suffix is lost."""
    values = torch.ones(1, 1, 16)
    values[..., 0] = 1e8
    # parts at the rows' own points: what lies at or after a token reaches it
    found = running_sum(((values, (1,), 1),), 0, 16, channel=False)
    wanted = values.double().flip(-1).cumsum(-1).flip(-1)
    assert torch.equal(found[..., 1:].double(), wanted[..., 1:])
