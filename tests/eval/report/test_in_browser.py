"""The pages in headless Chromium: for everybody's eyes and hands, with and without the script."""

from pathlib import Path

import pytest

from eval.escaping import for_terminal
from eval.report.client_data import client_data
from tests.helpers.reports import HOSTILE

KINDS = ["run", "hundred", "sites", "private", "statement", "comparison", "audit", "attacks"]
LOOKS = [(1300, "light"), (390, "dark"), (1300, "dark"), (390, "light")]
"""Widths and themes; of kinds but the first, which has nearly all there is, the first two."""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_nothing_in_any_look(open_page, kind):
    """What is inside of pictures it cannot judge: see `test_colours` for their contrast."""
    axe = pytest.importorskip("axe_playwright_python")
    page = open_page(kind)
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text())
    for width, theme in LOOKS if kind == KINDS[0] else LOOKS[:2]:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme)
        found = page.evaluate(
            """rules => axe.run({include: [["html"]], exclude: [["svg > *"]]},
            {runOnly: rules, resultTypes: ["violations"]})""",
            RULES,
        )
        assert [
            (one["id"], one["nodes"][0]["html"], one["nodes"][0]["failureSummary"])
            for one in found["violations"]
        ] == [], (width, theme)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_legible_and_contents_reachable_on_a_phone(open_page, kind):
    page = open_page(kind, 390)
    small = page.evaluate(
        """() => [...document.querySelectorAll("main *, nav *")]
        .filter((one) => [...one.childNodes].some((n) => n.nodeType === 3 && n.data.trim())
            && one.getClientRects().length && !["SCRIPT", "OPTION"].includes(one.tagName))
        .map((one) => [parseFloat(getComputedStyle(one).fontSize)
            * (one.ownerSVGElement ? one.ownerSVGElement.getScreenCTM().a : 1), one.textContent])
        .filter(([size]) => size < 11)"""
    )
    assert small == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.wait_for_function(
        """() => [...document.querySelectorAll("main .scroll")]
        .filter((one) => one.checkVisibility() && one.scrollWidth > one.clientWidth + 2)
        .filter((one) => one.previousElementSibling?.className !== "sideways"
            || !one.classList.contains("right")).length === 0"""
    )
    link = page.locator("nav a").last
    assert not link.is_visible()
    page.locator("nav summary").click()
    assert link.is_visible()


def test_every_picture_is_named_and_has_its_values(open_page):
    page = open_page("run")
    figures = page.locator("figure").all()
    assert len(figures) >= 9
    for figure in figures:
        assert figure.locator("svg").get_attribute("aria-label")
        assert figure.locator("details tbody tr").count() >= 1


def test_a_client_is_picked_by_its_mark_its_row_and_the_list(open_page, hostile):
    page = open_page("run")
    clients = client_data(hostile)["clients"]
    best = max(hostile.scores, key=lambda one: (one.accuracy, one.client)).client
    point = page.locator("section").first.locator(f'.mark[data-key*="c{best}"] use').last
    point.hover()
    tip = page.locator("#tip").text_content()
    assert tip.startswith(f"client {best}, ")
    assert tip.endswith("%")
    point.click()
    select = page.locator("article select")
    assert select.input_value() == str(best)
    select.select_option("3")
    shown = page.locator(".explorer")
    own = clients[3]
    for name, value in own["facts"]:
        assert for_terminal(f"{name}{value}") in shown.text_content()
    curve = shown.locator("svg").get_attribute("aria-label")
    assert f"2: {own['curve'][1]:.1f}%" in curve
    cells = [int(text) for text in shown.locator(".confusion td").all_text_contents() if text]
    assert sum(cells) == hostile.scores[3].test_images
    assert shown.locator("h3").all_text_contents() == [
        "Accuracy by round",
        "Answers by true class",
        "Experts served",
        "Attention of its gate",
    ]
    page.get_by_text("All 10 clients as a table").click()
    row = page.locator('section:first-of-type tr[data-key="c7"]').last
    row.click()
    assert select.input_value() == "7"
    assert "on" in row.get_attribute("class")


def test_tables_sort_and_filter(open_page):
    page = open_page("comparison")
    table = page.locator("section > .scroll table").first
    cells = table.locator("tbody tr:visible td:nth-child(2)")
    before = cells.all_text_contents()
    assert len(before) == 29
    heading = table.get_by_role("button", name="accuracy %")
    heading.click()
    falling = [float(text.split()[0]) for text in cells.all_text_contents()]
    assert falling == sorted(falling, reverse=True)
    assert table.locator("th").nth(1).get_attribute("aria-sort") == "descending"
    heading.click()
    assert [float(t.split()[0]) for t in cells.all_text_contents()] == sorted(falling)
    page.get_by_label("Filter rows of: Standings").fill("METHOD 28")
    assert table.locator("tbody tr:visible th").all_text_contents() == ["method 28"]


def test_a_method_stands_out_while_it_is_pointed_at_or_pressed(open_page):
    page = open_page("comparison")
    curve = page.locator("figure").nth(1).locator("svg").first
    assert curve.locator(".on").count() == 0
    chip = page.locator(".chips").get_by_role("button", name="method 7", exact=True)
    chip.focus()
    assert curve.locator('.on[data-key="m7"]').count() >= 2
    dimmed = curve.locator('.mark[data-key="m9"]').first
    assert float(dimmed.evaluate("one => getComputedStyle(one).opacity")) < 0.3
    chip.click()
    page.get_by_role("button", name="Show all alike").focus()
    assert chip.get_attribute("aria-pressed") == "true"
    assert curve.locator(".on").count() >= 2
    page.keyboard.press("Escape")
    assert curve.locator(".on").count() == 0
    curve.get_by_text("method 5", exact=True).hover()
    assert page.locator("#tip").text_content().startswith("method 5: ")
    assert curve.locator('.on[data-key="m5"]').count() >= 2


def test_the_search_finds_clients_methods_headings_and_pictures(open_page):
    page = open_page("run")
    page.locator("#find").fill("client 6")
    page.keyboard.press("Enter")
    assert page.locator("article select").input_value() == "6"
    page.locator("#find").fill("traffic by")
    assert page.locator("#found").inner_text() == "Picture: Traffic by round"
    page.locator("#find").fill("no such thing")
    assert page.locator("#found-count").inner_text() == "0 found"


def test_a_printed_page_has_everything_open_and_headings_with_their_figures(open_page):
    page = open_page("run")
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("main details:not([open])").count() == 0
    look = page.evaluate(
        """() => [getComputedStyle(document.querySelector("h2")).breakAfter,
        ...["breakInside", "breakAfter"].map((one) =>
            getComputedStyle(document.querySelector(".plot"))[one]),
        getComputedStyle(document.querySelector("nav")).display]"""
    )
    assert look == ["avoid", "avoid", "avoid", "none"]
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("main details[open]").count() == 0


def test_without_its_script_the_page_has_all_figures(open_page, hostile):
    page = open_page("run", java_script_enabled=False)
    assert page.locator("nav a").first.is_visible()
    assert not page.locator(".explorer").is_visible()
    assert not page.locator("#search").is_visible()
    page.get_by_text("Every client in words").click()
    rows = page.locator("#part-1-2 tbody tr")
    assert rows.count() >= len(hostile.scores)
    assert rows.first.is_visible()


def test_a_hostile_name_is_shown_and_does_nothing(open_page):
    page = open_page("run")
    shown = for_terminal(HOSTILE)
    assert page.title() == shown
    assert shown in page.locator("h1").text_content()
    assert page.locator("main img").count() == 0
    assert page.locator("script").count() == 2  # the data and the page's own


def test_the_page_runs_no_script_that_a_name_would_bring(browser, page_of):
    context = browser.new_context()
    page = context.new_page()
    refused = []
    page.on("console", lambda said: refused.append(said.text))
    page.goto(page_of("run").as_uri())
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.acted = true";
        document.body.append(script);
    }""")
    assert page.evaluate("window.acted") is None
    assert "Content Security Policy" in "".join(refused)
    context.close()
