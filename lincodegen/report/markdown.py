"""The derivation's Markdown as HTML: text, tables, code, and formulas as MathML.

Links, images and raw HTML are not read: nothing in the text can lead out of the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup
from mdit_py_plugins.dollarmath import dollarmath_plugin

_RULES = ("heading", "fence", "table", "list", "backticks", "escape")
_NAMESPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'


def sections(text: str) -> Mapping[str, Markup]:
    """The HTML below each heading of the second level, by the heading's text."""
    reader = _reader()
    tokens = reader.parse(text)
    starts = [i for i, t in enumerate(tokens) if t.type == "heading_open" and t.tag == "h2"]
    found: dict[str, Markup] = {}
    for start, stop in zip(starts, [*starts[1:], len(tokens)], strict=True):
        # a heading is three tokens: open, its text, close
        found[tokens[start + 1].content] = _html(reader, tokens[start + 3 : stop])
    return found


def mathml(latex: str, *, block: bool) -> Markup:
    """A formula as MathML, on a line of its own or within one."""
    text = convert(latex.strip(), display="block" if block else "inline")
    return Markup(text.replace(_NAMESPACE, "", 1))


def _reader() -> MarkdownIt:
    reader = MarkdownIt("zero").enable(list(_RULES))
    return reader.use(dollarmath_plugin, renderer=_formula, allow_labels=False)


def _formula(content: str, options: Mapping[str, Any]) -> str:
    return mathml(content, block=bool(options["display_mode"]))


def _html(reader: MarkdownIt, tokens: list[Token]) -> Markup:
    html = str(reader.renderer.render(tokens, reader.options, {}))
    # wide tables scroll within themselves
    html = html.replace("<table>", '<div class="scroll"><table class="prose">')
    return Markup(html.replace("</table>", "</table></div>"))
