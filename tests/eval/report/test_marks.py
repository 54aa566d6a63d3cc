"""Marks answer to a keyboard, a finger and a pointer alike, and no text covers another one."""

import pytest


def walk(page, plot, *keys):
    """What is told after each key."""
    plot.focus()
    told = []
    for key in keys:
        page.keyboard.press(key)
        told.append(page.locator("#said").text_content())
    return told


def test_arrow_keys_walk_over_points_and_enter_shows_the_client(open_page, hostile):
    page = open_page("run")
    plot = page.get_by_label("Accuracy of every client", exact=True).first
    worst, *_, best = sorted(hostile.scores, key=lambda one: (one.accuracy, one.client))
    first, second, other, last = walk(page, plot, "ArrowRight", "ArrowRight", "ArrowDown", "End")
    assert first == f"client {worst.client}, personal model: {100 * worst.accuracy:.1f}%"
    assert "personal model" in second
    assert other.startswith(second.partition(",")[0] + ", global model: ")
    assert last.startswith(f"client {best.client}, global model: ")
    assert page.locator("#tip").text_content() == last
    ring, point = (
        page.evaluate(
            """one => { const {left, top, width, height} = document.querySelector(one)
            .getBoundingClientRect(); return [left + width / 2, top + height / 2]; }""",
            one,
        )
        for one in (".here", f'.mark[data-key$="c{best.client}"] use:last-of-type')
    )
    assert abs(ring[0] - point[0]) < 2  # the same column
    page.keyboard.press("Enter")
    select = page.locator("article select")
    assert select.input_value() == str(best.client)
    assert select.evaluate("one => one === document.activeElement")
    page.keyboard.press("Escape")
    assert plot.evaluate("one => one === document.activeElement")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    assert page.locator(".here").count() == 0
    assert not page.locator("#tip").is_visible()


@pytest.mark.parametrize("kind", ["run", "audit"])
def test_every_mark_is_reached_and_no_picture_has_more_than_one_stop(open_page, kind):
    """Walking on from the last mark leads to the first one; a heat map's cells are marks, too."""
    page = open_page(kind)
    plots = page.locator("main .plot:visible").all()
    assert plots
    for plot in plots:
        stops = plot.evaluate(
            """plot => {
            const said = document.getElementById("said");
            const all = new Map();
            const press = (key) => plot.dispatchEvent(new KeyboardEvent("keydown", {key}));
            for (let i = 0; i < 700; i++) {
                press("ArrowRight");
                const ring = plot.querySelector(".here");
                const at = ["x", "y"].map((name) => ring.getAttribute(name));
                const stop = said.textContent + at;
                if (i && stop === [...all.keys()][0]) break;
                all.set(stop, said.textContent);
            }
            plot.dispatchEvent(new FocusEvent("blur"));
            const told = [...plot.querySelectorAll(".mark:not([data-cells], [data-echo])")]
                .flatMap((mark) => mark.dataset.tip.split("\\n"));
            return {stops: all.size, missed: told.filter((tip) => ![...all.values()].includes(tip)),
                    inside: plot.querySelectorAll("[tabindex]").length};
            }"""
        )
        assert 1 <= stops["stops"] < 700
        assert stops["missed"] == []
        assert stops["inside"] == 0


def test_tables_and_methods_are_one_stop_each_and_arrow_keys_move_within(open_page):
    page = open_page("comparison")
    stops = """() => [...document.querySelectorAll("main button, main select, main summary,"
        + "main input, main [tabindex]")]
        .filter((one) => one.tabIndex >= 0 && one.checkVisibility()).length"""
    assert page.evaluate(stops) < 30
    chips = page.get_by_role("toolbar", name="Methods that stand out").get_by_role("button")
    chips.first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    second = page.evaluate("document.activeElement.dataset.key")
    page.keyboard.press("Enter")
    assert page.locator("#said").text_content().endswith(" stands out.")
    table = page.locator("section > .scroll table").first
    table.locator("tbody button").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    row = table.locator("tbody tr").nth(1)
    assert "on" in row.get_attribute("class").split()
    assert row.get_attribute("data-key") != second
    page.get_by_label("Filter rows of: Standings").fill("method 28")
    assert table.locator('tbody button[tabindex="0"]').text_content() == "method 28"


def test_a_tap_tells_and_a_second_one_picks(open_page):
    page = open_page("run", 390, has_touch=True)
    point = page.locator("section").first.locator('.mark[data-key*="c"] use').nth(1)
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    at = (box["x"] + box["width"] / 2 - 9, box["y"] + box["height"] / 2)  # near enough for a finger
    before = page.locator("article select").input_value()
    where = page.evaluate("scrollY")
    page.touchscreen.tap(*at)
    tip = page.locator("#tip")
    assert tip.is_visible()
    assert tip.text_content().endswith("%Tap again to show this client")
    assert page.evaluate("scrollY") == where
    client = tip.text_content().partition(",")[0].removeprefix("client ")
    assert client != before
    page.touchscreen.tap(*at)
    assert page.locator("article select").input_value() == client
    page.touchscreen.tap(5, 400)
    assert not tip.is_visible()


def test_where_an_axis_leaves_something_out_the_whole_one_is_a_press_away(open_page):
    page = open_page("comparison")
    figures = [one for one in page.locator("figure").all() if one.locator(".axis").count()]
    assert len(figures) == 4  # of each picture, since one method is far below the others
    for figure in figures:
        bulk, whole = figure.locator(".plot").all()
        assert bulk.is_visible()
        assert not whole.is_visible()
        figure.get_by_role("button", name="Whole axis").click()
        assert not bulk.is_visible()
        assert whole.is_visible()
        assert whole.locator("svg").get_attribute("aria-label").endswith(", whole axis")
    bulk, whole = figures[1].locator(".plot").all()
    assert "method 1 \u2193 5.0%" in bulk.locator("svg").text_content()
    assert "\u2193" not in whole.locator("svg").text_content()


@pytest.mark.parametrize("kind", ["run", "hundred", "private", "comparison", "audit", "attacks"])
def test_no_text_of_a_picture_covers_another_one(open_page, kind):
    page = open_page(kind)
    covered = page.evaluate(
        """() => [...document.querySelectorAll("main svg")].flatMap((svg) => {
        const texts = [...svg.querySelectorAll("text")].map((text) =>
            [text.textContent, text.getBoundingClientRect()]).filter(([, box]) => box.width);
        return texts.flatMap(([one, a], i) => texts.slice(i + 1).filter(([, b]) =>
            Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2
            && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)
            .map(([other]) => [svg.getAttribute("aria-label"), one, other]));
        })"""
    )
    assert covered == []
