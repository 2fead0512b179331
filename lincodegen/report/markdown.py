"""The derivation's Markdown as HTML: text, tables, code, and formulas as MathML.

Links, images and raw HTML are not read: nothing in the text can lead out of the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import unescape
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from latex2mathml.converter import convert_to_element
from markdown_it import MarkdownIt
from markupsafe import Markup
from mdit_py_plugins.dollarmath import dollarmath_plugin

if TYPE_CHECKING:
    from markdown_it.token import Token

_RULES = ("heading", "fence", "table", "list", "backticks", "escape")
_FACTORS = frozenset({"mi", "msub"})


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
    root = convert_to_element(latex.strip(), display="block" if block else "inline")
    # HTML knows the element: it needs no namespace
    root.attrib.pop("xmlns", None)
    for leaf in root.iter():
        leaf.text = unescape(leaf.text) if leaf.text else leaf.text
    for row in list(root):
        _part(row)
    for script in list(root.iter("msub")):
        _lower(script)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _part(row: Element) -> None:
    """Sets factors of a product apart: their subscripts run into each other otherwise."""
    for i in range(len(row) - 1, 0, -1):
        if row[i].tag in _FACTORS and row[i - 1].tag in _FACTORS:
            row.insert(i, Element("mspace", {"width": "0.24em"}))


def _lower(script: Element) -> None:
    """Gives a subscript a fixed height: with fonts not made for formulas it is not lowered else."""
    index = script[1]
    script.remove(index)
    row = SubElement(script, "mrow")
    row.append(Element("mspace", {"height": "0.95em"}))
    row.append(index)


def _reader() -> MarkdownIt:
    reader = MarkdownIt("zero").enable(list(_RULES))
    return reader.use(dollarmath_plugin, renderer=_formula, allow_labels=False)


def _formula(content: str, options: Mapping[str, Any]) -> str:
    if not options["display_mode"]:
        return mathml(content, block=False)
    # on a narrow page a long formula scrolls within itself
    return Markup('<div class="scroll formula">{}</div>').format(mathml(content, block=True))


def _html(reader: MarkdownIt, tokens: list[Token]) -> Markup:
    html = str(reader.renderer.render(tokens, reader.options, {}))
    # wide tables scroll within themselves
    html = html.replace("<table>", '<div class="scroll"><table class="prose">')
    return Markup(html.replace("</table>", "</table></div>"))
