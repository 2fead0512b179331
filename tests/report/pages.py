"""Pages as a browser would read them: elements, texts and colours, with Python's own parser."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "link", "input"}


@dataclass
class Element:
    """An element, its attributes, and the elements and texts in it."""

    tag: str
    attributes: dict[str, str | None]
    parent: "Element | None"
    children: list = field(default_factory=list)

    def walk(self):
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.walk()

    def all(self, *tags):
        return [e for e in self.walk() if e.tag in tags]

    @property
    def text(self):
        return "".join(c.text if isinstance(c, Element) else c for c in self.children)


class Reader(HTMLParser):
    """Builds the tree; an element that is not closed, or closed twice, is an error."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.root = Element("document", {}, None)
        self.open = self.root

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        element = Element(tag, dict(attrs), self.open)
        self.open.children.append(element)
        if tag not in VOID:
            self.open = element

    def handle_startendtag(self, tag, attrs):
        self.open.children.append(Element(tag, dict(attrs), self.open))

    def handle_endtag(self, tag):
        assert tag == self.open.tag, f"</{tag}> closes <{self.open.tag}>, line {self.getpos()[0]}"
        self.open = self.open.parent

    def handle_data(self, data):
        self.open.children.append(data)


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open is reader.root, f"<{reader.open.tag}> is not closed"
    return reader.root


def themes(html):
    """The colours of the light and of the dark theme, by name."""
    (light,) = re.findall(r":root \{\s*color-scheme[^}]*\}", html)
    (dark,) = re.findall(r"prefers-color-scheme: dark\) \{\s*:root \{[^}]*\}", html)
    colours = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", text)) for text in (light, dark)]
    assert colours[0].keys() == colours[1].keys()
    return {"light": colours[0], "dark": colours[1]}


def contrast(one, other):
    """The ratio of two colours' luminances, as WCAG 2 defines it."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
