"""One method that failed does not hide how the others differ, and is still named."""

from eval.report.contenders import cut_note, looks_of, robust_limits
from eval.report.method_curves import curves, curves_by_family
from eval.report.standings import standings
from eval.report.trade_offs import accuracy_by_traffic
from tests.helpers.reports import comparison_part, contender


def test_a_far_off_method_does_not_stretch_the_axis():
    others = [0.80, 0.81, 0.82, 0.83, 0.84]
    assert robust_limits([0.1, *others], [0.1, *others]) == (0.80, 0.84)
    assert robust_limits(others, others) == (0.80, 0.84)
    assert robust_limits([0.1, 0.8], [0.1, 0.8]) == (0.1, 0.8)  # of so few, none is the odd one
    assert robust_limits([0.5] * 6 + [0.46], [0.5] * 7) == (0.46, 0.5)  # near enough


def test_what_is_cut_off_is_named_with_its_value():
    assert cut_note([]) == ""
    assert "FedOTP (12.3%)" in cut_note([("FedOTP", 0.123)])
    part = comparison_part(12)
    pictures = [one for section in part.sections for one in section.pictures]
    assert len(pictures) == 4
    for one in pictures:
        assert one.whole
        assert "\u2193" not in one.whole
        assert "method 1 (" in one.caption
        assert "method 1" in one.svg
        assert any("method 1" in row for row in one.values.rows)


def test_families_have_panels_where_lines_are_many():
    few = [contender(f"m{i}", family="Personal parts") for i in range(5)]
    assert curves_by_family(few) is None
    part = comparison_part(12)
    svg = part.sections[1].pictures[1].svg
    assert all(f">{family}</text>" in svg for family in ("Personal parts", "Sets of prompts"))


def test_methods_of_a_family_differ_in_colour_and_all_in_colour_or_dashes():
    many = [
        contender(f"m{i}", family=["Personal parts", "Sets of prompts"][i % 2]) for i in range(14)
    ]
    looks = looks_of(many)
    assert [looks[f"m{i}"].key for i in range(14)] == [f"m{i}" for i in range(14)]
    for first in (0, 1):
        assert len({looks[f"m{i}"].colour for i in range(first, 14, 2)}) == 7
    assert len({(look.colour, look.dashes) for look in looks.values()}) == 14


def test_every_mark_of_a_method_has_its_key():
    methods = [contender("a", bytes_per_round=2000.0), contender("b", 0.3, bytes_per_round=5000.0)]
    for shown in (standings(methods, None), curves(methods), accuracy_by_traffic(methods)):
        assert shown is not None
        for key in ("m0", "m1"):
            assert shown.svg.count(f'data-key="{key}"') >= 2  # its mark and its name
        assert set(shown.values.keys) == {"m0", "m1"}
