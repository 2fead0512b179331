"""Short specs around an expression or a few lines, for tests of what a spec means."""

from __future__ import annotations

from lincodegen.spec import load
from lincodegen.spec.printing import format_node

HEAD = """\
name: rule
inputs:
  q: {shape: [K]}
  k: {shape: [K]}
  v: {shape: [V]}
  m: {shape: [K, V]}
  g: {shape: []}
  x: {shape: [4, K]}
"""


def read(*lines, head=HEAD, more="", outputs="o"):
    """A recurrence whose step reads every input in its last line."""
    body = "".join(f"  {line}\n" for line in lines)
    rest = "  all_ = sum(q) + sum(k) + sum(v) + sum(m) + g + sum(x)\n" if head == HEAD else ""
    listed = f"outputs: [{outputs}{', all_' if rest else ''}]\n"
    return load(f"{head}{more}{listed}step: |\n{body}{rest}")


def value(expression, **options):
    """The node of one expression."""
    return read(f"o = {expression}", **options).step[0].value


def texts(recurrence):
    labels = [f"{statement.name}#{i}" for i, statement in enumerate(recurrence.step)]
    return [format_node(statement.value, labels) for statement in recurrence.step]
