"""Specs of one's own: their text is shown and never read as markup; some have no chunked form."""

import pytest
from pages import read

from lincodegen import pipeline
from lincodegen.report.markdown import sections
from lincodegen.report.page import gather, render

HOSTILE = """</title><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7 * 7 }} & "x" """

SPEC = """\
name: hostile
title: '{text}'
reference: '[link](http://example.com/a) ![image](http://example.com/b)'
doc: '{text}'
inputs:
  q: {{shape: [K], doc: '{text}'}}
  k: {{shape: [K]}}
  v: {{shape: [V]}}
state: {{S: {{shape: [K, V]}}}}
# </code></pre><script>alert(3)</script>
step: |
  S = {update}
  o = S.T @ q
"""


@pytest.fixture
def spec(tmp_path, monkeypatch):
    """A spec file with hostile text, its state replaced by the expression given."""
    monkeypatch.setenv("LINCODEGEN_CACHE", str(tmp_path / "cache"))

    def write(update):
        path = tmp_path / "hostile.yaml"
        path.write_text(SPEC.format(text=HOSTILE, update=update))
        return path

    return write


def elements(tree):
    return {e.tag for e in tree.walk()}


def test_the_text_of_a_spec_is_escaped(spec, page):
    html = render(gather(spec("S + outer(k, v)"), "sm_90", {}), "2026-01-02")
    tree = read(html)
    assert elements(tree) <= elements(read(page("linear_attention")))
    assert not any(name.startswith("on") for e in tree.walk() for name in e.attributes)
    assert [a.attributes["href"] for a in tree.all("a") if a.attributes["href"][0] != "#"] == []
    (heading,) = tree.all("h1")
    assert heading.text.strip() == HOSTILE.strip()
    assert tree.all("title")[0].text.startswith(HOSTILE.strip())
    assert "</code></pre><script>" in tree.all("pre")[0].text


def test_a_page_without_a_chunked_form_names_the_reason(spec):
    path = spec("tanh(S) + outer(k, v)")
    tree = read(render(gather(path, "sm_90", {}), "2026-01-02"))
    reason = pipeline.compile_spec(path).reason
    assert reason
    (derivation,) = [e for e in tree.all("section") if e.attributes["id"] == "derivation"]
    assert "There is no exact chunked form" in derivation.text
    assert reason.replace("`", "") in derivation.text
    assert not tree.all("svg")
    assert not tree.all("script", "img")


def test_records_of_a_shipped_op_are_not_those_of_its_namesake(spec, page, tmp_path):
    text = spec("0.5 * S + outer(k, v)").read_text()
    path = tmp_path / "gated_delta_rule.yaml"
    path.write_text(text.replace("name: hostile", "name: gated_delta_rule"))
    tree = read(render(gather(path, "sm_90", {}), "2026-01-02"))
    for missing in ("No compile of this op is on record", "No benchmark of this op is on record"):
        assert missing in tree.text
        assert missing not in read(page("gated_delta_rule")).text


def test_markdown_has_neither_links_nor_html():
    text = "## One\n\n[a](http://x) <b>b</b> ![c](http://y) <http://z> `<i>` $x_{1} < y$\n"
    found = sections(text)["One"]
    tree = read(str(found))
    formula = {"span", "math", "mrow", "msub", "mi", "mn", "mo", "mspace"}
    assert elements(tree) == {"document", "p", "code"} | formula
    assert "<b>b</b>" in tree.text
    assert [m.text for m in tree.all("mo")] == ["<"]
