"""Pictures follow the page, say what their marks are, and let no name act."""

import re
import xml.etree.ElementTree as ET

from eval.escaping import for_terminal
from eval.report.structure import Table
from eval.report.style import new_figure, picture, short, styled
from eval.report.svg import tell, tell_cells
from tests.helpers.reports import HOSTILE

NAME = for_terminal(HOSTILE)
VALUES = Table(("a",), [("b",)])


@styled
def drawn(draw, title="title"):
    figure, (axes,) = new_figure(2.0)
    draw(axes)
    return picture(figure, title, "caption", VALUES).svg


def marks(svg):
    root = ET.fromstring(svg)
    return [one.attrib for one in root.iter() if one.get("class") == "mark"]


def test_points_and_lines_carry_their_tips_and_keys():
    def draw(axes):
        tell(axes.scatter([1, 2, 3], [1, 2, 3]), ["one", "two\nlines", "three"], ["c1", "c2", "c3"])
        tell(axes.plot([1, 2], [1, 2])[0], "a line", "m0")

    points, line = marks(drawn(draw))
    assert points["data-tip"].split("\n") == ["one", "two lines", "three"]
    assert points["data-key"].split("\n") == ["c1", "c2", "c3"]
    assert (line["data-tip"], line["data-key"]) == ("a line", "m0")


def test_cells_carry_names_and_values():
    def draw(axes):
        image = axes.imshow([[1, 2, 3], [4, 5, 6]])
        tell_cells(image, "{row} {column}: {cell}", ["a", "b"], ["x", "y", "z"], [[1, 2, 3], "456"])

    (cells,) = marks(drawn(draw))
    assert cells["data-rows"].split("\n") == ["a", "b"]
    assert [row.split() for row in cells["data-cells"].split("\n")] == [[*"123"], [*"456"]]


def test_a_hostile_name_is_text_wherever_it_stands():
    def draw(axes):
        axes.set_title(f"{HOSTILE} ")
        axes.set_yticks([0], [HOSTILE])
        tell(axes.plot([0, 1], [0, 1])[0], HOSTILE, "m0")
        axes.plot([0, 1], [1, 0], label=HOSTILE)
        axes.legend()

    svg = drawn(draw, HOSTILE)
    assert "<img" not in svg
    assert "</script" not in svg
    root = ET.fromstring(svg)  # well-formed
    assert root.get("aria-label") == NAME
    texts = ["".join(one.itertext()) for one in root.iter("text")]
    assert texts.count(f"{NAME} ") == 1  # a heading has room for it
    assert texts.count(short(NAME)) == 2
    (line,) = marks(svg)
    assert line["data-tip"] == NAME


def test_ids_are_referred_to_and_different_in_two_pictures():
    def draw(axes, shift=0):
        axes.plot([0, 1], [shift, 1], marker="o")

    one, other = drawn(draw), drawn(lambda axes: draw(axes, 0.5))
    ids = [set(re.findall(r'\sid="([^"]*)"', svg)) for svg in (one, other)]
    assert not ids[0] & ids[1]
    for svg, own in zip((one, other), ids, strict=True):
        assert own == set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))


def test_the_style_of_equal_points_is_written_once():
    def draw(axes):
        axes.set_axis_off()
        axes.scatter(range(50), range(50), color="#006cab", clip_on=False)

    svg = drawn(draw)
    assert svg.count("<use") == 50
    assert svg.count("var(--series-0)") <= 3


def test_a_map_of_a_thousand_clients_has_no_tips():
    _, (axes,) = new_figure(2.0)
    image = axes.imshow([[0]])
    names = [str(i) for i in range(1000)]
    tell_cells(image, "{cell}", names, names, [])
    assert image.get_gid() is None
    tell_cells(image, "{cell}", names[:100], names[:100], [])
    assert image.get_gid() is not None


def test_paths_are_written_to_a_hundredth():
    svg = drawn(lambda axes: axes.plot([0, 1 / 3, 1], [0, 2 / 7, 1]))
    paths = re.findall(r'\sd="([^"]*)"', svg)
    assert paths
    assert not re.search(r"\.\d{3}", "".join(paths))
