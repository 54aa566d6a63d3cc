"""The command: its record, its page, resuming, and the tables of the documentation."""

import json

import pytest
import yaml

from eval.attacks.rows import AttackTable
from eval.attacks.running import CASES
from eval.attacks.spec import usual_share
from eval.attacks.tables import markdown, points
from eval.commands import attack
from eval.marked import fill, marks
from tests.helpers.attacks import SMALL
from tests.helpers.pages import check_page
from tests.helpers.places import ROOT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("attack")


@pytest.fixture(scope="module")
def command(folder):
    """The command line of a small table."""
    base = SMALL["base"] | {"features": {"cache": str(folder / "cache")}}
    small = {"attacks": ["nan", "sign_flip"], "shares": [0.25]}
    (folder / "plan.yaml").write_text(
        yaml.safe_dump(SMALL | {"base": base} | small, sort_keys=False)
    )
    (folder / "page.md").write_text("before\n<!-- attacks -->\n<!-- end of attacks -->\nafter\n")
    return [str(folder / "plan.yaml"), "--out", str(folder / "out"), "--quiet", "true"]


@pytest.fixture(scope="module")
def table(folder, command) -> AttackTable:
    attack.main([*command, "--page", str(folder / "page.md")])
    return AttackTable.from_json(json.loads((folder / "out" / attack.RECORD).read_text()))


def test_the_record_has_a_row_for_every_combination(table):
    assert len(table.rows) == 2 * 2 * 3
    for method in table.methods:
        assert table.row(method, "none", 0.0, "none").lost == 0.0
        refused = table.row(method, "nan", 0.25, "none")
        assert (refused.recall, refused.precision) == (1.0, 1.0)
    worst = table.most_lost("PromptFL", 0.25, "none")
    assert worst.attack == "sign_flip"
    assert worst.lost > 5


def test_the_page_is_well_formed_and_names_act_nowhere(table, folder):
    html = (folder / "out" / attack.PAGE).read_text()
    check_page(html)
    assert "<b>" not in html
    assert "median &lt;b&gt;" in html
    assert "sign flip" in html
    assert all(method in html for method in table.methods)


def test_tables_go_into_their_place(table, folder):
    page = (folder / "page.md").read_text()
    assert page == f"before\n<!-- attacks -->\n{markdown(table)}<!-- end of attacks -->\nafter\n"
    assert "median \\<b\\>" in page


def test_finished_cases_are_taken_up_again_and_never_silently(table, folder, command, capsys):
    cases = folder / "out" / CASES
    lines = cases.read_text().splitlines()
    with pytest.raises(SystemExit):
        attack.main(command)
    assert "--resume" in " ".join(capsys.readouterr().err.split())
    cases.write_text("\n".join(lines[:-1]) + "\n")
    attack.main([*command, "--resume", "true"])
    assert cases.read_text().splitlines() == lines
    again = json.loads((folder / "out" / attack.RECORD).read_text())
    assert AttackTable.from_json(again) == table
    cases.write_text("{}\n")
    with pytest.raises(SystemExit):
        attack.main([*command, "--resume", "true"])
    assert "is damaged" in capsys.readouterr().err


def test_a_page_without_a_place_is_refused_before_anything_runs(folder, command, capsys):
    (folder / "other.md").write_text("nothing\n")
    with pytest.raises(SystemExit):
        attack.main([*command, "--resume", "true", "--page", str(folder / "other.md")])
    assert "has no place for the table" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("shares", "expected"), [([0.3], 0.3), ([0.1, 0.2], 0.1), ([0.1, 0.2, 0.4], 0.2)]
)
def test_a_defence_is_chosen_for_the_share_in_the_middle(shares, expected):
    assert usual_share(shares) == expected


@pytest.mark.parametrize(
    ("value", "shown"), [(0.04, "0.0"), (-0.04, "0.0"), (2.96, "+3.0"), (-1.0, "-1.0")]
)
def test_points(value, shown):
    assert points(value) == shown


def committed() -> AttackTable:
    record = ROOT / "docs" / "results" / "attacks.json"
    return AttackTable.from_json(json.loads(record.read_text()))


def test_the_documentation_has_the_committed_figures():
    table, page = committed(), ROOT / "docs" / "attacks.md"
    begin, end = marks(attack.PLACE)
    assert page.read_text().partition(begin)[2].partition(end)[0] == f"\n{markdown(table)}"
    plan = yaml.safe_load((ROOT / "eval" / "configs" / "attack.yaml").read_text())
    assert plan == dict(table.plan)


def test_the_recommended_defence_holds_its_promise():
    """At most 3 points lost to any attack at 20 % attackers, and 1 point without attackers."""
    table = committed()
    for method in table.methods:
        assert table.row(method, "none", 0.0, table.recommended).lost <= 1.0
        assert table.most_lost(method, 0.2, table.recommended).lost <= 3.0
        for name in table.attacks:
            assert table.row(method, name, 0.2, table.recommended).fooled < 0.05
    worst = [table.most_lost(method, 0.2, "none").lost for method in table.methods]
    assert max(worst) > 10.0  # there is something to defend
    assert min(worst) > 3.0


def test_a_place_is_filled_and_what_is_around_it_stays(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x -->\nold\n<!-- end of x -->\nb <!-- x --> c\n")
    fill(page, "x", "new\n")
    assert page.read_text() == "a\n<!-- x -->\nnew\n<!-- end of x -->\nb <!-- x --> c\n"
