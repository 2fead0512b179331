"""The templates of the token loops and the contexts they are filled from."""

import re
from dataclasses import fields

from jinja2 import meta

from lincodegen.emit.templates import environment
from lincodegen.emit.token_recurrent_kernel import KernelContext
from lincodegen.emit.token_recurrent_torch import RecurrentTorch
from lincodegen.resources import templates_dir


def undeclared(template):
    source = (templates_dir() / template).read_text()
    return meta.find_undeclared_variables(environment().parse(source))


def test_torch_template_uses_its_context_and_nothing_else():
    assert undeclared("recurrent_torch.py.jinja") == {f.name for f in fields(RecurrentTorch)}


def test_triton_template_uses_its_context_and_nothing_else():
    assert undeclared("recurrent_triton.py.jinja") == {
        *("title", "name", "functions", "forward", "backward")
    }
    source = (templates_dir() / "recurrent_triton.py.jinja").read_text()
    used = set(re.findall(r"(?:forward|backward)\.(\w+)", source))
    assert used == {f.name for f in fields(KernelContext)}
