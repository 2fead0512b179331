"""The page in a real browser, in both themes: nothing is fetched, cut off or hard to read."""

import json
import re
import shutil
import subprocess

import pytest
from pages import contrast

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")

# what the browser made of the page: printed into it, since nothing else comes back
PROBE = """
<script>
const back = e => {
  for (; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor;
    if (colour !== "rgba(0, 0, 0, 0)") return colour;
  }
};
for (const details of document.querySelectorAll("details")) details.open = true;
const pairs = new Set(), empty = [], cut = [];
for (const e of document.querySelectorAll("body *")) {
  const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  const box = e.getBoundingClientRect();
  if (!own || ["TITLE", "DESC", "SCRIPT"].includes(e.tagName.toUpperCase())) continue;
  const style = getComputedStyle(e), svg = e instanceof SVGElement;
  const colour = svg ? style.fill : style.color;
  // numbers of marks stand on marks, which are no background
  if (!svg || !e.classList.contains("mark")) pairs.add(colour + "|" + back(e));
  if (box.width === 0 || box.height === 0) empty.push(e.textContent);
}
for (const svg of document.querySelectorAll("svg")) {
  const room = svg.viewBox.baseVal;
  for (const text of svg.querySelectorAll("text")) {
    const box = text.getBBox();
    const right = box.x + box.width, bottom = box.y + box.height;
    if (box.x < 0 || box.y < -2 || right > room.width || bottom > room.height + 2)
      cut.push(text.textContent);
  }
}
document.body.insertAdjacentHTML("beforeend", "<pre id=probe></pre>");
document.getElementById("probe").textContent = "PROBE" + JSON.stringify({
  dark: matchMedia("(prefers-color-scheme: dark)").matches,
  fetched: performance.getEntriesByType("resource").map(r => r.name),
  overflow: document.documentElement.scrollWidth - innerWidth,
  formulas: [...document.querySelectorAll("math")].map(m => m.getBoundingClientRect().height),
  pairs: [...pairs], empty, cut,
}) + "PROBE";
</script>
"""


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no headless browser is here, none of {', '.join(BROWSERS)}")
    return found


QUIET = (
    "quic",
    "background-networking",
    "component-update",
    "sync",
    "default-apps",
    "extensions",
)
"""Parts of a browser that would reach for a network."""


def opened(browser, file, width, dark):
    command = [
        browser,
        "--headless",
        "--no-sandbox",  # it refuses to run as root with one; the page is our own
        "--disable-gpu",
        "--no-first-run",
        *(f"--disable-{part}" for part in QUIET),
        f"--user-data-dir={file.parent / 'profile'}",
        f"--window-size={width},1400",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        "--dump-dom",
        file.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r"PROBE(\{.*\})PROBE</pre>", done.stdout, re.DOTALL)
    assert found, done.stderr
    # the text went through the page: its signs are escaped
    text = found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return json.loads(text)


def hexadecimal(colour):
    parts = re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", colour).groups()
    return "#" + "".join(f"{int(part):02x}" for part in parts)


@pytest.mark.parametrize(
    ("name", "width", "dark"), [("gated_delta_rule", 1180, False), ("gsa", 400, True)]
)
def test_the_page_opens_in_a_browser(name, width, dark, browser, page, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(page(name).replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    found = opened(browser, file, width, dark)
    assert found["dark"] == dark
    assert found["fetched"] == []
    assert found["overflow"] <= 0
    assert found["empty"] == []
    assert found["cut"] == []
    assert len(found["formulas"]) >= 5
    assert min(found["formulas"]) > 5
    pairs = [pair.split("|") for pair in found["pairs"]]
    assert len(pairs) >= 4
    for text, behind in pairs:
        assert contrast(hexadecimal(text), hexadecimal(behind)) >= 4.5, (text, behind)
