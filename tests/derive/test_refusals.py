"""Steps without a chunked form: refused with the line and the reason, never a traceback."""

import pytest

from lincodegen.derive.chunkform import derive_group
from lincodegen.derive.timeline import read_timeline
from lincodegen.errors import NotChunkable
from lincodegen.spec.loader import load
from tests.property.unseen_specs import REFUSED, SPECS, spec


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_line_and_reason(name):
    text, statement, reason = REFUSED[name]
    with pytest.raises(NotChunkable) as found:
        read_timeline(load(text))
    assert reason in found.value.reason
    assert str(found.value) == f"line {found.value.line}: {found.value.reason}"
    step = text[text.index("step: |") :].split("\n")
    line = text.split("\n")[found.value.line - 1]
    assert line.strip().startswith(statement)
    assert line in step


def test_a_refusal_inside_a_local_names_the_local():
    text = spec(
        "far_away",
        """
        x = S.T @ k
        y = tanh(x)
        S = exp(g) * S + outer(k, v - y)
        o = S.T @ q
        """,
    )
    with pytest.raises(NotChunkable) as found:
        read_timeline(load(text))
    assert text.split("\n")[found.value.line - 1].strip() == "y = tanh(x)"


def test_of_two_orientations_the_plain_reason_is_told():
    text = spec("turned", "S = S - outer(S @ u, u) * dot(k, q)\nS = relu(S)\no = S.T @ q")
    with pytest.raises(NotChunkable, match="relu"):
        read_timeline(load(text))


@pytest.mark.parametrize("name", SPECS)
def test_the_others_have_one(name):
    timeline = read_timeline(load(SPECS[name]))
    for group in timeline.groups:
        assert derive_group(group).equation("S_end")
