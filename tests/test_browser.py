"""report.html in a real browser, the network off; skipped with the reason where there is none."""

import importlib.util
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt
from pages import CLASSES, HOSTILE, MAPPED, rich, runs
from pages import page as written
from synthetic import IMAGES, made, results, sweep
from synthetic import report as report_of

from aebench.report.comparison import Comparisons
from aebench.report.markdown import markdown
from aebench.report.page import page as page_of
from aebench.report.sides import Side
from aebench.report.texts import on_one_line

sync_api = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[test]'")
NAMED = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMED)), None)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium")
AXE = Path(importlib.util.find_spec("axe_playwright_python").origin).parent / "axe.min.js"
TABLE = "table.results"
NAMES = [HOSTILE[key] for key in ("tag", "end", "quotes", "turned", "arabic", "long")]


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def report():
    """All kinds of runs, with names that would do harm."""
    return rich(runs(NAMES))


@pytest.fixture(scope="module")
def uri(report, tmp_path_factory):
    """Of the page as a file on disk."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(written(report))
    return path.as_uri()


@contextmanager
def opening(browser):
    """Opens pages; whatever they say or ask for stands in `said`."""
    contexts, said = [], []

    def open_one(uri, width=1600, **how):
        sizes = {"viewport": {"width": width, "height": 900}}
        contexts.append(browser.new_context(offline=True, **sizes, **how))
        page = contexts[-1].new_page()
        page.set_default_timeout(5000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.on(
            "request",
            lambda r: r.url == uri or r.url.startswith("data:") or said.append(r.url),
        )
        page.goto(uri)
        return page

    yield open_one, said
    for context in contexts:
        context.close()


@pytest.fixture
def opened(browser, uri):
    """Opens the page, or another one; whatever it says or asks for is a failure."""
    with opening(browser) as (open_one, said):
        yield lambda width=1600, of=uri, **how: open_one(of, width, **how)
    assert said == []


@pytest.fixture(scope="module")
def loaded(browser, uri):
    """The page, loaded once: 0.5 s each time."""
    with opening(browser) as (open_one, said):
        yield open_one(uri), said


@pytest.fixture
def page(loaded):
    """For tests that set all that they look at, and reset what would hide anything."""
    page, said = loaded
    page.mouse.move(0, 0)
    page.keyboard.press("Escape")
    yield page
    assert said == []


@pytest.fixture(scope="module")
def bare(browser, uri):
    """The page without a script."""
    with opening(browser) as (open_one, said):
        yield open_one(uri, java_script_enabled=False)
    assert said == []


def column(page, number):
    return page.locator(f"{TABLE} tbody tr").evaluate_all(
        f"rows => rows.map(row => row.children[{number}].dataset.order)"
    )


def point(locator):
    """Move the mouse to its middle."""
    locator.scroll_into_view_if_needed()
    box = locator.bounding_box()
    locator.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


@pytest.mark.parametrize(("width", "scheme"), [(1600, "light"), (400, "dark")])
def test_it_can_be_read_by_all_and_fits(opened, width, scheme):
    page = opened(width, color_scheme=scheme, bypass_csp=True)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    page.evaluate("document.querySelectorAll('details').forEach(found => { found.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    # Of all cards that is the same again.
    page.evaluate(
        "document.querySelectorAll('.card ~ .card details').forEach(d => { d.open = false; })"
    )
    page.evaluate(AXE.read_text())
    # What does not depend on colours is once enough: 3 s.
    rules = "" if width > 400 else "runOnly: ['color-contrast'], "
    found = page.evaluate(f"axe.run(document, {{{rules}resultTypes: ['violations']}})")
    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []


def test_a_click_and_a_key_sort(page, report):
    head = page.locator(f"{TABLE} th", has_text="accuracy, %")
    head.click()
    sync_api.expect(head).to_have_attribute("aria-sort", "ascending")
    values = [float(value) for value in column(page, 2) if value]
    assert values == sorted(values) and len(values) > 9
    head.get_by_role("button").press("Enter")
    sync_api.expect(head).to_have_attribute("aria-sort", "descending")
    assert [float(value) for value in column(page, 2) if value] == values[::-1]
    assert column(page, 2)[-1] == ""  # what failed is the last, either way


def test_never_is_later_than_any_number(page):
    head = page.locator(f"{TABLE} th", has_text="paid back after")
    page.get_by_label("what it costs").check()
    head.click()
    sync_api.expect(head).to_have_attribute("aria-sort", "ascending")
    values = column(page, 5)
    numbers = [float(value) for value in values]
    assert numbers == sorted(numbers) and values[-1] == "Infinity" and values.count("9.0") == 1
    head.click()
    sync_api.expect(head).to_have_attribute("aria-sort", "descending")
    assert [float(value) for value in column(page, 5)] == numbers[::-1]
    page.get_by_label("what it keeps").check()


def test_a_filter_leaves_what_matches(page, report):
    count = len(report.configurations)
    assert page.inner_text(".dt-info") == f"{count} of {count} runs"
    page.get_by_role("searchbox").fill("untrained")
    assert page.locator(f"{TABLE} tbody tr").count() == 1
    assert page.inner_text(".dt-info") == f"1 of {count} runs"
    page.get_by_role("searchbox").fill("<script>")
    assert "<script>alert(1)</script>" in page.inner_text(f"{TABLE} tbody")
    page.get_by_role("searchbox").fill("no such run")
    assert "No run matches" in page.inner_text(f"{TABLE} tbody")
    page.get_by_role("searchbox").fill("")


def test_groups_of_columns(page, bare):
    for shown in (page, bare):
        names = {"accuracy, %": "what it keeps", "params": "what it costs"}
        heads = {name: shown.locator(f"{TABLE} th", has_text=name).first for name in names}
        assert heads["accuracy, %"].is_visible() and not heads["params"].is_visible()
        shown.get_by_label("what it costs").check()
        assert heads["params"].is_visible() and not heads["accuracy, %"].is_visible()
        shown.get_by_label("all", exact=True).first.check()
        assert heads["params"].is_visible() and heads["accuracy, %"].is_visible()
        shown.get_by_label("what it keeps").check()


def test_a_point_of_a_chart_says_what_it_is_and_leads_to_its_card(page, report):
    dots = page.locator("a.pt")
    assert dots.count() > 10
    seen = set()
    for dot in dots.all():
        dot.dispatch_event("pointerenter")
        seen.add(page.inner_text("#tip"))
    for name in NAMES:
        assert any(on_one_line(name)[:50] in text for text in seen), name
    dots.first.scroll_into_view_if_needed()
    page.mouse.move(0, 0)
    assert not page.locator("#tip").is_visible()
    point(dots.first)
    assert "accuracy" in page.inner_text("#tip")
    dots.first.click()
    assert page.locator(".card:target").count() == 1


def test_keys_walk_through_a_chart_to_a_card(page):
    chart = page.locator("figure > svg", has=page.locator("a.pt")).first
    assert page.evaluate("[...document.querySelectorAll('a.pt')].every(a => a.tabIndex < 0)")
    chart.focus()
    assert not page.locator("#tip").is_visible()
    lefts = []
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        at = page.locator("a.pt:focus")
        # That is what is seen and what is read out.
        assert page.inner_text("#tip") == at.get_attribute("aria-label")
        lefts.append(at.bounding_box()["x"])
    assert lefts == sorted({*lefts})
    page.keyboard.press("ArrowLeft")
    assert at.bounding_box()["x"] == lefts[2]
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()
    card = at.get_attribute("href")
    page.keyboard.press("Enter")
    assert page.locator(".card:target").get_attribute("id") == card[1:]
    # Out of the chart, whichever point was walked to.
    chart.focus()
    page.keyboard.press("ArrowRight")
    assert at.count() == 1
    page.keyboard.press("Tab")
    assert page.locator("a.pt:focus").count() == 0 and not page.locator("#tip").is_visible()


def test_points_on_one_place_are_all_walked_through(page):
    walked = """places => {
      const found = [toward("ArrowDown", places, -1)];
      while (found.at(-1) >= 0) found.push(toward("ArrowRight", places, found.at(-1)));
      return found;
    }"""
    assert page.evaluate(walked, [[0, 0], [5, 1], [5, 1], None, [5, 1], [9, 0]]) == [
        *(0, 1, 2, 4, 5, -1)
    ]


def test_the_map_shows_what_is_pointed_at(page, report):
    dots = page.locator("figure.map use")
    assert dots.count() == IMAGES
    point(dots.nth(7))
    assert page.locator("figure.map use.at").count() == 1
    index = page.evaluate(
        "[...document.querySelectorAll('figure.map use')].findIndex(dot => dot.matches('.at'))"
    )
    assert colour(page) == index % 256
    label = report.configurations[0].outcomes[0]["label"][index]
    assert page.inner_text("#tip").startswith(on_one_line(CLASSES[label]))
    # Another move on the same image draws nothing anew: this one has no other within 6.
    places = report.configurations[0].ok[0].code_map[0].astype(int)
    apart = ((places[:, None] - places[None]) ** 2).sum(axis=2) + 10**6 * np.eye(IMAGES, dtype=int)
    alone = dots.nth(int(apart.min(axis=1).argmax()))
    point(alone)
    page.evaluate("window.drawn = document.querySelector('#tip canvas')")
    box = alone.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 + 2, box["y"] + box["height"] / 2, steps=2)
    assert page.evaluate("window.drawn === document.querySelector('#tip canvas')")
    page.mouse.move(0, 0)
    assert not page.locator("#tip").is_visible()


def colour(page):
    """The red of the shown tile's middle: the number of its image."""
    return page.evaluate(
        "(() => { const c = document.querySelector('#tip canvas'); "
        "return c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data[0]; })()"
    )


def test_keys_walk_through_the_map(page, report):
    drawing = page.locator("figure.map > svg")
    left = int(report.configurations[0].ok[0].code_map[0][:, 0].argmin())
    point(page.locator("figure.map use").nth(left))  # from where keys go on
    page.mouse.move(0, 0)
    drawing.focus()
    places = []
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown"):
        drawing.press(key)
        at = page.locator("use.at")
        places.append([float(at.get_attribute(name)) for name in ("x", "y")])
        assert page.locator("#tip canvas").evaluate("canvas => canvas.width") == MAPPED
    assert places[0][0] < places[1][0] < places[2][0] and places[3][1] > places[2][1]
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()


def test_run_method_and_class_of_the_map_are_chosen(page, report):
    dots = page.locator("figure.map use")
    before = dots.first.get_attribute("x")
    run, method, kind = page.locator("figure.map select").all()
    method.select_option("t-SNE")
    one = report.configurations[0].ok[0]
    assert dots.first.get_attribute("x") == str(one.code_map[1][0][0]) != before
    caption = page.locator("figure.map figcaption")
    assert (
        caption.inner_text()
        == "t-SNE of the codes of cnn\nA point is a test image, hollow where the vote is wrong."
    )
    other = report.configurations[1].ok[0]
    run.select_option("1")
    assert dots.first.get_attribute("x") == str(other.code_map[1][0][0])
    wrong = (other.outcomes["label"] != other.outcomes["prediction"]).sum()
    assert page.locator("use.no").count() == wrong
    assert "of mlp" in caption.inner_text()
    kind.select_option("2")
    assert page.locator("figure.map use:not(.off)").count() == (other.outcomes["label"] == 2).sum()
    kind.select_option("")
    run.select_option("0")
    method.select_option("PCA")
    assert caption.inner_text() == "Codes\nHollow: wrong."


def test_two_runs_side_by_side(page, report):
    names = [one.name for one in report.configurations if one.ok]
    page.select_option("#sideA", str(names.index("mlp")))
    page.select_option("#sideB", str(names.index("cnn")))
    text = page.inner_text("#chooser")
    # Read out is the sentence, not the tiles.
    assert page.locator("#chooser [aria-live]").inner_text() in text
    assert f"Of {IMAGES} test images" in page.inner_text("#chooser [aria-live]")
    by_name = {one.name: one for one in report.configurations}
    a, b = by_name["mlp"], by_name["cnn"]
    right = [one.images["accuracy"][0] for one in (a, b)]
    lost = int(((right[0] == 0) & (right[1] == 1)).sum())
    assert f"B alone that of {lost}" in text and f"B alone is right: {lost}" in text
    apart = 100 * (a.intervals["accuracy"].mean - b.intervals["accuracy"].mean)
    assert f"\u2212{-apart:.2f} ± " in text and text.count("B is better") == 2
    tiles = page.locator("#compared li").all()
    assert len(tiles) > 12 and "B ✓" in tiles[0].inner_text()
    page.select_option("#sideB", str(names.index("alone")))
    assert "nothing to compare" in page.inner_text("#compared")
    page.select_option("#sideB", str(names.index("mlp")))
    assert "same run" in page.inner_text("#chooser") and page.inner_text("#compared") == ""


def test_the_images_on_which_two_differ_most_come_first(page, report):
    names = [one.name for one in report.configurations if one.ok]
    page.select_option("#sideA", str(names.index("mlp")))
    page.select_option("#sideB", str(names.index("cnn")))
    a, b = (report.configurations[i].outcomes[0]["squared_error"] for i in (1, 0))
    most = int(abs(a - b).argmax())
    first = page.locator("#compared h3", has_text="B's error is smaller").locator("+ ul li").first
    red = first.locator("canvas").evaluate(
        "c => c.getContext('2d').getImageData(4, 4, 1, 1).data[0]"
    )
    assert red == most % 256
    assert f"{a[most]:.2}".rstrip("0") in first.inner_text()


def test_a_broken_picture_leaves_the_figures(opened, uri, tmp_path):
    path = tmp_path / "report.html"
    text = Path(uri.removeprefix("file://")).read_text()
    path.write_text(re.sub(r'(id="sprite" src="data:image/webp;base64,)[^"]+', r"\1AAAA", text))
    page = opened(of=path.as_uri())
    assert "not told apart" in page.inner_text("#compared") or "better" in page.inner_text(
        "#compared"
    )
    assert page.locator("#compared li").count() == 0
    page.locator("figure.map > svg").focus()  # scrolls, of which the page hears a frame later
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.keyboard.press("ArrowRight")
    assert page.locator("#tip").is_visible() and page.locator("#tip canvas").count() == 0


def test_rows_of_images_are_hidden_without_a_script(bare):
    rows = bare.locator(".strip")
    visible = [row.is_visible() for row in rows.all()]
    assert all(visible)
    bare.get_by_text("Choose rows").click()
    bare.locator("figure.mosaic input").nth(1).uncheck()
    assert [row.is_visible() for row in rows.all()] == [i != 2 for i in range(len(visible))]


def test_it_reads_without_a_script(bare, report):
    rows = bare.locator(f"{TABLE} tbody tr")
    assert rows.count() == len(report.configurations)
    assert bare.locator("figure.map use").count() == IMAGES
    assert bare.locator("figure svg a.pt").count() > 10
    assert bare.get_by_text("cnn against the others").is_visible()
    assert bare.locator(".card").count() == len(report.configurations)
    assert not bare.locator("#chooser").is_visible() and not bare.locator("#tip").is_visible()


def test_the_browser_refuses_what_is_not_its_own(browser, uri, tmp_path):
    path = tmp_path / "report.html"
    text = Path(uri.removeprefix("file://")).read_text()
    more = '<script>window.ran = 1</script><img src="x" onerror="window.ran = 2">'
    path.write_text(text.replace("</main>", f'{more}<p style="color: red">a</p></main>'))
    context = browser.new_context(offline=True)
    page = context.new_page()
    refused = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(path.as_uri())
    assert page.evaluate("window.ran") is None
    assert len([text for text in refused if "Content Security Policy" in text]) >= 3
    context.close()


def test_it_prints(opened):
    page = opened()
    page.locator(".card details").first.evaluate("found => { found.open = true; }")
    count = "document.querySelectorAll('details:not([open])').length"
    closed = page.evaluate(count)
    # As the browser prints, all is open.
    page.evaluate(f"addEventListener('beforeprint', () => {{ window.folded = {count}; }})")
    content = page.pdf(format="A4")
    assert content.startswith(b"%PDF") and content.count(b"/Type /Page\n") > 3
    assert page.evaluate("window.folded") == 0
    assert page.evaluate(count) == closed > 20
    page.emulate_media(media="print")
    assert not page.get_by_role("searchbox").is_visible()
    assert page.locator(f"{TABLE}").is_visible()
    for name in ("accuracy, %", "params"):  # of two groups, one of which is chosen
        assert page.locator(f"{TABLE} th", has_text=name).first.is_visible()
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 within Chromium's margins
    assert page.evaluate("document.documentElement.scrollWidth") == 718


def test_a_hostile_name_is_shown_as_it_is(page):
    cards = page.locator(".card h3").all_inner_texts()
    assert {on_one_line(name) for name in NAMES} <= {*cards}
    page.get_by_role("link", name="<script>alert(1)</script>").first.click()
    assert page.locator(".card:target h3").inner_text() == "<script>alert(1)</script>"


def test_a_comparison_has_its_page(opened, tmp_path):
    before = [Side("HEAD", results(sweep())), Side("k5", results(sweep(mlp={"accuracy": 0.6})))]
    path = tmp_path / "compare.html"
    path.write_bytes(page_of(Comparisons(before).document))
    page = opened(of=path.as_uri())
    assert "better" in page.inner_text("main table")
    # Nothing that could be used and does nothing.
    assert page.locator("input, select, button, dl.headline, #chooser").count() == 0
    for link in page.locator("a[href]").all():
        assert page.locator(link.get_attribute("href")).count() == 1


# What widens a table on a git host: its text's size, cells' padding and borders; no line breaks.
GIT_HOST = """
body { font: 16px/1.5 "Segoe UI", "Noto Sans", Helvetica, Arial, "Liberation Sans", sans-serif; }
table { display: block; width: max-content; border-spacing: 0; border-collapse: collapse; }
th, td { padding: 6px 13px; border: 1px solid; } th { font-weight: 600; }
"""


def test_no_table_above_the_appendix_is_wider_than_a_git_host_shows(browser):
    large = {"num_params": 123_456_789, "train_seconds": 12345.6, "epoch_seconds": 1234.5}
    names = [f"a-name-that-is-long-{n}" for n in range(3)]
    found = [
        *(made(name, s, options={"a": n}, **large) for n, name in enumerate(names) for s in (0, 1)),
        *(made("taught-long-name", s, depth=1, labels_seen=True) for s in (0, 1)),
        *sweep(),
    ]
    text, _ = markdown(report_of(found).document).split("## Appendix")
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    html = MarkdownIt("commonmark").enable("table").render(text)
    page.set_content(f"<style>{GIT_HOST}</style>{html}")
    widths = page.evaluate("[...document.querySelectorAll('table')].map(t => t.offsetWidth)")
    columns = page.evaluate("[...document.querySelectorAll('tr')].map(r => r.cells.length)")
    page.close()
    # Without Arial's metrics the font of the browser is a sixth wider.
    assert len(widths) > 3 and max(widths) <= 900 and max(columns) <= 7, widths
