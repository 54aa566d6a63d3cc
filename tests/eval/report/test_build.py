"""The page holds every section, loads nothing, and its figures are those of the run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval.commands.report import main
from eval.comparison.cells import run_comparison
from eval.comparison.spec import comparison
from eval.experiment import ExperimentLoader
from eval.officer.facts import read_facts
from eval.officer.wording import statement
from eval.report.budgets import spent_budgets
from eval.report.build import build_report
from eval.report.expert_plots import own_weights, related_share, served_matrix
from eval.report.labels import End, label_ends, spread_out
from eval.report.method_curves import curves
from eval.report.page import Part, Section, render
from eval.report.privacy_section import privacy_section
from eval.report.prompt_map import inliers, principal_components
from eval.report.run_data import Evidence, read_evidence
from eval.report.run_section import run_part
from eval.report.standings import standings
from eval.report.style import new_figure, thin
from eval.report.trade_offs import accuracy_by_epsilon
from pfedmoap.errors import RunError
from tests.helpers.pages import check_page
from tests.helpers.reports import contender, with_clients
from tests.helpers.runs import small

SECTIONS = (
    "Accuracy by client",
    "One client",
    "Learning curves",
    "Who holds what",
    "What the mixture does",
    "Map of prompts",
    "Calibration",
    "Traffic",
)


@pytest.fixture(scope="module")
def run(finished_run: Path, loader: ExperimentLoader) -> Evidence:
    return read_evidence(finished_run, loader)


def test_page_of_a_run_holds_every_section_and_loads_nothing(
    finished_run: Path, loader: ExperimentLoader
):
    html = build_report([finished_run], loader)
    check_page(html)
    for section in SECTIONS:
        assert f"<h2>{section}</h2>" in html
    assert html.count("<figure>") == html.count("<figcaption>") >= 9


def test_command_writes_the_page(finished_run: Path, tmp_path: Path):
    main([str(finished_run), "--out", str(tmp_path / "page.html"), "--title", "A <b> title"])
    html = (tmp_path / "page.html").read_text()
    assert "<title>A &lt;b&gt; title</title>" in html


def test_another_page_is_not_overwritten(finished_run: Path, tmp_path: Path):
    page, link = tmp_path / "index.html", tmp_path / "link.html"
    page.write_text("<!DOCTYPE html>\n<p>mine")
    link.symlink_to(page)
    for out in (page, link):
        with pytest.raises(SystemExit):
            main([str(finished_run), "--out", str(out)])
    assert page.read_text() == "<!DOCTYPE html>\n<p>mine"
    for _ in range(2):  # our own page is replaced
        main([str(finished_run), "--out", str(tmp_path / "page.html")])


def test_folder_that_is_no_run(tmp_path: Path, loader: ExperimentLoader):
    with pytest.raises(RunError, match="run directory"):
        build_report([tmp_path], loader)


def test_several_runs_are_set_side_by_side(finished_run: Path, loader: ExperimentLoader):
    html = build_report([finished_run, finished_run], loader)
    check_page(html)
    assert "Runs side by side" in html


def test_comparison_has_standings_and_curves(cache: Path, tmp_path: Path, loader: ExperimentLoader):
    base = small(cache)
    del base["method"]
    methods = {
        "zero-shot": {"method": "zero_shot"},
        "PromptFL": {"method": {"name": "promptfl", "context_length": 2}},
        "pFedMoAP": {"method": {"name": "pfedmoap", "context_length": 2, "experts": 2}},
    }
    source = {"base": base, "methods": methods, "seeds": [0, 1], "reference": "PromptFL"}
    run_comparison(comparison(source), tmp_path)
    html = build_report([tmp_path], loader)
    check_page(html)
    for section in ("Standings", "Learning curves", "Accuracy and traffic"):
        assert f"<h2>{section}</h2>" in html
    assert "Accuracy and privacy" not in html


def test_figures_on_the_page_are_those_of_the_run(run: Evidence):
    tiles = {name: value for name, value, _ in run_part(run).tiles}
    last = run.records[-1]["evaluation"]
    assert tiles["Personalised accuracy"] == f"{100 * last['mean']:.1f}%"
    assert tiles["Global model"] == f"{100 * last['global_union']:.1f}%"


def test_served_matrix_counts_what_was_logged(run: Evidence):
    matrix = served_matrix(run)
    logged = sum(len(given) for r in run.records for given in r["served"].values())
    assert matrix.sum() == logged == 8  # 4 clients, 2 experts, in the second of two rounds
    assert (np.diag(matrix) == 0).all()
    assert served_matrix(run, [1]).sum() == 0


def test_related_share_by_hand(run: Evidence):
    task = dict(run.task)
    counts = [[5, 1], [5, 1], [1, 5], [1, 5]]  # groups {0, 1} and {2, 3}
    task["class_names"] = ["a", "b"]
    task["clients"] = [{"domain": None, "train": c, "test": c} for c in counts]
    records = [{"round": 1, "served": {"0": [1, 2], "2": [3]}}]
    assert related_share(replace(run, task=task, records=records)) == (2 / 3, pytest.approx(1 / 3))


def test_own_weights_are_shares(run: Evidence):
    weights = own_weights(run)
    known = weights[~np.isnan(weights)]
    assert len(known)
    assert ((known > 0) & (known < 1)).all()


def test_principal_components_match_the_covariance():
    rows = np.random.default_rng(0).standard_normal((30, 5)) * [5, 3, 1, 1, 1]
    places, shares = principal_components(rows)
    values = np.linalg.eigvalsh(np.cov(rows.T))[::-1]
    assert places.var(0, ddof=1) == pytest.approx(values[:2])
    assert shares == pytest.approx(values[:2] / values.sum())


def test_principal_components_of_equal_and_of_two_points():
    assert not principal_components(np.ones((4, 3)))[0].any()
    places, _ = principal_components(np.array([[0.0], [2.0]]))
    assert places[:, 0] == pytest.approx([-1.0, 1.0])


def test_a_runaway_prompt_is_left_off_the_map():
    rows = np.vstack([np.random.default_rng(0).standard_normal((9, 3)), [[99.0, 0, 0]]])
    assert inliers(rows).tolist() == [True] * 9 + [False]


def test_the_privacy_section_reads_as_the_statement_does(
    private_run: Path, loader: ExperimentLoader
):
    evidence = read_evidence(private_run, loader)
    section = privacy_section(evidence)
    assert section is not None
    assert "Privacy" in [each.title for each in run_part(evidence).sections]
    assert section.chapters == statement(read_facts(private_run))
    [by_client] = [one.table for one in section.chapters if one.title == "What was spent"]
    assert by_client is not None
    assert [int(row[0]) for row in by_client.rows] == sorted(evidence.epsilon)
    assert spent_budgets(evidence) is not None


def test_a_run_without_a_promise_has_no_privacy_section(run: Evidence):
    assert privacy_section(run) is None
    assert spent_budgets(run) is None


def test_accuracy_by_epsilon_needs_two_levels():
    assert accuracy_by_epsilon([contender("a", epsilon=1.0), contender("b", epsilon=1.0)]) is None
    assert accuracy_by_epsilon([contender("a", epsilon=1.0), contender("b")]) is not None
    assert accuracy_by_epsilon([contender("a")]) is None


def test_many_methods_are_all_named():
    many = [contender(f"method {i}") for i in range(13)]
    for shown in (curves(many), standings(many, None)):
        assert shown is not None
        assert all(f"method {i}" in shown.svg for i in range(13))


def test_pictures_follow_the_theme_of_the_page():
    shown = standings([contender("a")], None)
    assert "var(--ink)" in shown.svg
    assert "xmlns" not in shown.svg


def test_hundred_clients_are_legible(run: Evidence):
    """With 100 clients every picture is still made, and names no more ticks than fit."""
    part = run_part(with_clients(run, 100))
    assert [section.title for section in part.sections] == list(SECTIONS)
    check_page(render("x", [part]))


def test_labels_at_the_ends_of_lines_do_not_collide():
    _, (axes,) = new_figure(2.0)
    label_ends(axes, 1.0, [End(0.50, "a", "k"), End(0.501, "b", "k"), End(0.502, "c", "k")], 0.1)
    heights = sorted(text.xyann[1] for text in axes.texts)
    assert np.diff(heights).min() >= 0.1 - 1e-6


def test_labels_are_moved_no_farther_than_needed_and_stay_inside():
    assert spread_out([0.2, 0.5, 0.8], 0.1, 0, 1) == pytest.approx([0.2, 0.5, 0.8])
    assert spread_out([0.5, 0.5, 0.9], 0.2, 0, 1) == pytest.approx([0.4, 0.6, 0.9])
    assert spread_out([0.97, 0.98, 0.99], 0.1, 0, 1) == pytest.approx([0.8, 0.9, 1.0])
    assert spread_out([0.5] * 5, 0.9, 0, 1) == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_thin_keeps_at_most_so_many():
    assert thin(10, 20) == list(range(10))
    assert len(thin(100, 25)) == 25
    assert thin(101, 25)[0] == 0


def test_text_is_escaped():
    html = render("t", [Part("<i>", "", [], [Section("<s>", ["<p>"])])])
    assert "&lt;i&gt;" in html
    assert "<i>" not in html
