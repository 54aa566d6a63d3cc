"""Series are told apart with every kind of sight, by colour and by a second channel."""

import itertools

import numpy as np
import pytest

from eval.report.colours import DASHES, MARKERS, PALETTE, THEMES, declarations, looks

# Complete dichromacy in linear RGB: Machado, Oliveira and Fernandes (2009), table 1, severity 1.0.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)  # of linear sRGB, D65
JUST_NOTICEABLE = 2.3  # CIE76


def linear(colour):
    value = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    relative = XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(1)
    f = np.where(relative > 0.008856, np.cbrt(relative), 7.787 * relative + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one, other):
    light, dark = sorted((float(XYZ[1] @ linear(c)) for c in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def series(theme):
    return [THEMES[theme][f"series-{i}"] for i in range(len(PALETTE))]


def test_the_measures_are_those_of_the_standards():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert lab(linear("#ff0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.1)
    red, green = (SIGHT["deuteranopia"] @ linear(c) for c in ("#c05a3c", "#7d7d3c"))
    assert np.linalg.norm(lab(red) - lab(green)) < 25  # far apart only to who sees the hue


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("sight", SIGHT)
def test_any_two_series_are_five_noticeable_steps_apart(theme, sight):
    seen = [lab(SIGHT[sight] @ linear(colour)) for colour in series(theme)]
    nearest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))
    assert nearest > 5 * JUST_NOTICEABLE


@pytest.mark.parametrize("theme", THEMES)
def test_texts_and_graphics_stand_out_from_the_paper(theme):
    colours = THEMES[theme]
    for name in ("paper", "faint"):
        for text in ("ink", "muted", *(f"label-{i}" for i in range(len(PALETTE)))):
            assert contrast(colours[text], colours[name]) >= 4.5
        assert contrast(colours["edge"], colours[name]) >= 3
    for colour in series(theme):
        assert contrast(colour, colours["paper"]) >= 3


@pytest.mark.parametrize("theme", THEMES)
def test_ink_is_legible_on_cells_of_heat_maps(theme):
    """Cells are pictures in the light theme's colours, so opaque at most where figures stand."""
    from eval.report.style import UNDER_TEXT

    paper, ink = THEMES[theme]["paper"], THEMES[theme]["ink"]
    rgb = {c: [int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in (paper, *PALETTE[:2])}
    for colour in PALETTE[:2]:
        mixed = (UNDER_TEXT * a + (1 - UNDER_TEXT) * b
                 for a, b in zip(rgb[colour], rgb[paper], strict=True))  # fmt: skip
        assert contrast(ink, "#" + "".join(f"{round(one):02x}" for one in mixed)) >= 4.5


def test_every_series_has_a_second_channel():
    given = list(looks([f"method {i}" for i in range(49)]).values())
    assert len({(colour, dashes) for colour, dashes, _ in given[:28]}) == 28
    assert len({(colour, marker) for colour, _, marker in given}) == 49
    for first in range(0, 49, len(PALETTE)):  # neighbours differ in all three or in colour, marker
        assert len({marker for *_, marker in given[first : first + 7]}) == len(MARKERS)
    assert len(set(map(str, DASHES))) == len(DASHES)


def test_the_style_sheet_declares_every_colour():
    text = declarations("dark")
    assert all(f"--{name}: {colour};" in text for name, colour in THEMES["dark"].items())
    assert set(THEMES["light"]) == set(THEMES["dark"])
