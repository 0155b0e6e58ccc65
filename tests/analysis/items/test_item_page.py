"""The page of an item, opened in a browser: at home on a desk and a phone, by day and by night, and without a mouse."""

import pytest
from browser import CHROMIUM, Browser

from analysis.items.overview import write_site
from analysis.items.page import page
from sla_ablate.items.lines import append_lines
from sla_ablate.items.store import Results

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium (apt-get install chromium)")

WIDTHS = (1280, 390)
SORTED = """(column) => {
  const table = document.querySelector("table.sortable");
  return [table.querySelectorAll("thead th")[column].getAttribute("aria-sort"),
          [...table.tBodies[0].rows].map((row) => row.cells[column].dataset.value)];
}"""
BEYOND = """[...document.querySelectorAll("body *")].filter((each) => {
  const box = each.getBoundingClientRect();
  const scrolls = each.closest(".wide, pre, .spoken, details:not([open])");
  return !scrolls && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map((each) => each.outerHTML.slice(0, 80))"""
PALE = """(() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (v) => v <= 0.04045 * 255 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (each) => { const c = parse(getComputedStyle(each).backgroundColor);
    return c.length === 3 || c[3] > 0 ? c : ground(each.parentElement); };
  return [...document.querySelectorAll("h1, h2, p, a, th, td, small, li, figcaption, caption, dt, dd, code, summary")]
    .filter((each) => each.innerText.trim())
    .filter((each) => { const [a, b] = [light(parse(getComputedStyle(each).color)), light(ground(each))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5; })
    .map((each) => each.outerHTML.slice(0, 80));
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def written(tables, odd_table, tmp_path_factory):
    """The page of a grid, and that of an item whose run folders hold what no page wants."""
    folder = tmp_path_factory.mktemp("pages")
    pages = {"grid": [tables("distance_by_heads")], "odd": [odd_table], "rates": [tables("learning_rate")]}
    for name, of_item in pages.items():
        (folder / f"{name}.html").write_text(page(of_item), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["grid", "odd", "rates"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_is_cut_off(browser, written, name, width, dark):
    browser.open(written / f"{name}.html", width, dark)
    scroll, client = browser.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert client == width
    assert scroll <= client
    assert browser.evaluate(BEYOND) == []
    assert browser.evaluate(PALE) == []  # WCAG's contrast of 4.5
    assert browser.evaluate("[...document.images].every((each) => each.complete && each.naturalWidth > 0)")
    assert browser.problems == []


@pytest.mark.parametrize("key, text", [("Enter", "\r"), (" ", " ")], ids=["enter", "space"])
def test_the_keyboard_sorts(browser, written, key, text):
    browser.open(written / "grid.html", 1280)
    titles = browser.evaluate("[...document.querySelectorAll('thead button')].map((each) => each.textContent)")
    column = next(n for n, title in enumerate(titles) if title.startswith("Δ"))
    while browser.evaluate("document.activeElement.textContent") != titles[column]:
        browser.press("Tab")
    for order in ("ascending", "descending"):
        browser.press(key, text)
        sort, values = browser.evaluate(f"({SORTED})({column})")
        assert sort == order
        *numbers, baseline = values
        assert baseline == ""  # what has no value stays below
        assert numbers == sorted(numbers, key=float, reverse=order == "descending")
        assert len(numbers) == 20
    browser.evaluate("document.querySelector('thead button').click()")
    assert browser.evaluate("document.querySelectorAll('[aria-sort]').length") == 1
    sort, names = browser.evaluate(f"({SORTED})(0)")
    assert names[:2] == ["baseline", "SLA, distance 1, 1 of 4 heads"]


def test_a_screen_reader_finds_its_way(browser, written):
    browser.open(written / "grid.html", 1280)
    nodes = browser("Accessibility.getFullAXTree")["nodes"]
    found = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    roles = [role for role, _ in found]
    assert roles.count("main") == roles.count("navigation") == roles.count("banner") == 1
    headings = [name for role, name in found if role == "heading"]
    assert headings[0] == "Which distance with which number of heads lowers the loss most, the paper's grid?"
    assert not [role for role, name in found if role in ("region", "table", "link", "button", "heading") and not name]
    pictures = [name for role, name in found if role == "image"]
    assert all(len(name) > 40 for name in pictures)
    assert any(name.startswith("Difference to the baseline") and "distance 5, 4 of" in name for name in pictures)
    assert len({*pictures}) == len(pictures)
    assert browser.evaluate("document.documentElement.lang") == "en"
    levels = browser.evaluate("[...document.querySelectorAll('h1,h2,h3')].map((each) => +each.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    ids = browser.evaluate("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len({*ids}) == len(ids)
    links = browser.evaluate("[...document.querySelectorAll('a')].map((each) => each.getAttribute('href').slice(1))")
    assert {*links} <= {*ids}


def test_what_run_folders_hold_is_text(browser, written, odd_table):
    browser.open(written / "odd.html", 1280)
    (label,) = {label for label in odd_table.rows["pattern"] if "script" in label}
    assert browser.evaluate("document.scripts.length") == 1
    assert browser.evaluate("document.querySelectorAll('main b').length") == 0
    body = browser.evaluate("document.body.innerText")
    assert label in body
    assert '<b>Processor</b> & "co" 100 %' in body
    assert any(label in alt for alt in browser.evaluate("[...document.images].map((each) => each.alt)"))


def test_the_site_leads_to_every_page(browser, tables, tmp_path):
    names = ("skip_distance", "learning_rate")
    for name in names:
        append_lines(tmp_path / "results" / name / "results" / "micro" / "runs.jsonl", tables(name).lines)
    *pages, start = write_site(Results(tmp_path / "results"), tmp_path / "site")
    assert [path.name for path in pages] == ["learning_rate-micro.html", "skip_distance-micro.html"]
    for width in WIDTHS:
        browser.open(start, width)
        assert browser.evaluate(BEYOND) == []
        assert browser.problems == []
    links = browser.evaluate("[...document.querySelectorAll('a')].map((each) => each.href)")
    assert links == [path.as_uri() for path in pages]
    browser.open(pages[0], 390)
    assert browser.evaluate("document.querySelector('header a').href") == start.as_uri()
