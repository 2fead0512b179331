"""Every shipped op has a page: well-formed, alone, legible, the same whenever it is made."""

import json
import re

import pytest
from pages import contrast, read, themes

from lincodegen.pipeline import cost
from lincodegen.report.page import gather, render
from lincodegen.report.roles import ROLES
from lincodegen.resources import defaults_dir, specs_dir

NAMES = sorted(path.stem for path in specs_dir().glob("*.yaml"))
USUAL = "gated_delta_rule"
SECTIONS = "spec derivation numerics kernels roofline resources tuning benchmarks verification"
LOADING = ("src", "href", "xlink:href", "srcset", "poster", "data", "action", "style")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_well_formed_and_alone(name, page):
    html = page(name)
    tree = read(html)
    ids = [e.attributes["id"] for e in tree.walk() if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    assert [e.attributes["id"] for e in tree.all("section")] == SECTIONS.split()
    for element in tree.walk():
        assert element.tag not in ("script", "link", "img", "iframe", "object", "base")
        loaded = [element.attributes.get(key) for key in LOADING]
        assert all(value is None or value[1:] in ids for value in loaded), element.attributes
    assert not re.search(r"https?:|//[a-z]|url\(|@import|@font-face", html)


@pytest.mark.parametrize("name", NAMES)
def test_charts_and_tables_say_what_they_show(name, page):
    tree = read(page(name))
    charts = tree.all("svg")
    assert len(charts) >= 3
    for chart in charts:
        key, described = chart.attributes["aria-labelledby"].split()
        texts = {e.attributes.get("id"): e.text for e in chart.all("title", "desc")}
        assert texts[key]
        assert texts[described]
        assert not re.search(r"\b(nan|inf)\b", str([e.attributes for e in chart.walk()]))
    for table in tree.all("table"):
        widths = {len(row.all("th", "td")) for row in table.all("tr")}
        assert len(widths) == 1
    assert all(t.all("caption") for t in tree.all("table") if "class" not in t.attributes)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_the_spec_the_equations_and_the_compiled_kernels(name, page):
    tree = read(page(name))
    sections = {e.attributes["id"]: e for e in tree.all("section")}
    source = (specs_dir() / f"{name}.yaml").read_text(encoding="utf-8")
    assert sections["spec"].all("pre")[0].text.strip() == source.strip()
    assert len(sections["derivation"].all("math")) >= 3
    assert "$" not in sections["derivation"].text
    shown = sections["resources"].text
    tables = [json.loads(path.read_text()) for path in defaults_dir().glob("*.json")]
    for entry in (t["classes"]["bf16 128"][name] for t in tables):
        for label, kernel in entry["kernels"].items():
            assert label in shown
            assert f"{kernel['shared_bytes']:,}" in shown
    assert "NO" not in [e.text for e in sections["verification"].all("td")]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_what_each_of_its_kernels_is_for(name, page):
    tree = read(page(name))
    said = {e.text: e.parent.all("dd")[0].text for e in tree.all("dt") if e.all("code")}
    tables = [json.loads(path.read_text()) for path in defaults_dir().glob("*.json")]
    labels = {k for t in tables for k in t["classes"]["bf16 128"][name]["kernels"]}
    for label in labels:
        assert any(label.endswith(role) and said[role] == ROLES[role] for role in said), label


def test_the_costs_are_those_of_the_model(page):
    found = cost(specs_dir() / f"{USUAL}.yaml", "sm_90", {}).cost
    tree = read(page(USUAL))
    (section,) = [e for e in tree.all("section") if e.attributes["id"] == "kernels"]
    rows = {r.all("th")[0].text: [c.text for c in r.all("td")] for r in section.all("tr")}
    per = found.sizes.token_heads
    for launch in found.forward.kernels:
        assert any(c.text == f"{launch.time.seconds * 1e3:.3f}" for c in section.all("td"))
        assert launch.label in rows
    assert f"{found.forward.bytes / per:,.0f} bytes for a token and head" in section.text
    assert "predicted" in section.text


def test_what_does_not_exist_is_said_to_be_missing(tmp_path):
    page = gather(specs_dir() / "hgrn2.yaml", "sm_90", {})
    text = re.sub(r"\s+", " ", read(render(page, "2026-01-02")).text)
    assert "No record of tuning exists" in text
    assert "No benchmark of this op is on record" in text
    assert "The op was not run for this page" in text
    assert "measured" in text


def test_the_date_alone_differs_between_two_days(page):
    again = render(gather(specs_dir() / f"{USUAL}.yaml", "sm_90", {}), "2026-01-02")
    assert again == page(USUAL)
    later = render(gather(specs_dir() / f"{USUAL}.yaml", "sm_90", {}), "2031-12-30")
    assert later.replace("2031-12-30", "2026-01-02") == again


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_and_marks_are_legible(theme, page):
    colours = themes(page(USUAL))[theme]
    for text in ("ink", "quiet", "accent", "good", "bad"):
        assert contrast(colours[text], colours["paper"]) >= 4.5, text
        assert contrast(colours[text], colours["raised"]) >= 4.5, text
    for mark in ("memory", "matrix", "issue", "serial"):
        # numbers stand on marks; marks stand on the paper
        assert contrast(colours["on-mark"], colours[mark]) >= 4.5, mark
    for mark in ("memory", "matrix", "issue", "serial", "peer", "accent"):
        assert contrast(colours[mark], colours["paper"]) >= 3, mark


def test_every_colour_that_is_used_is_defined(page):
    html = page(USUAL)
    used = set(re.findall(r"var\(--([a-z-]+)\)", html))
    assert used - {"mono"} <= themes(html)["light"].keys()
