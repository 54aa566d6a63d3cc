"""The command that infers from uploads: its record, its table, and that of the documentation."""

import json

import pytest
import yaml

from eval.commands import leakage
from eval.leakage.figures import from_json, markdown
from eval.leakage.plan import leakage_plan
from eval.marked import marks
from pfedmoap.errors import ConfigError
from tests.helpers.places import ROOT

SMALL = {
    "base": {
        "data": "digits",
        "method": {"name": "promptfl", "context_length": 3, "context_init": "a photo of"},
        "sampling": {"shots": 4, "server_shots": 6},
        "training": {"epochs": 8, "batch_size": 16, "learning_rate": 0.3},
        "rounds": {"rounds": 1},
    },
    "label_sets": {"partition": {"name": "pathological", "clients": 10}},
    "membership": {"partition": {"name": "iid", "clients": 2}},
    "settings": {
        "plain": {},
        "release": {
            "privacy": {"name": "release", "epsilon": 0.01, "delta": 1e-3, "insecure_seed": 1}
        },
        "central": {"privacy": {"name": "central", "delta": 1e-3, "insecure_seed": 1}},
    },
    "shadows": 2,
}


def test_uploads_tell_more_than_noisy_ones(tmp_path, capsys):
    base = SMALL["base"] | {"features": {"cache": str(tmp_path / "cache")}}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(SMALL | {"base": base}, sort_keys=False))
    page = tmp_path / "page.md"
    page.write_text("<!-- leakage -->\n<!-- end of leakage -->\n")
    out = tmp_path / "leakage.json"
    leakage.main([str(tmp_path / "plan.yaml"), "--out", str(out), "--page", str(page)])
    plain, release, central = found = from_json(json.loads(out.read_text()))
    assert plain.chance == pytest.approx(0.1)
    assert plain.labels >= 0.6
    assert plain.labels > release.labels
    assert central.labels is None
    assert all(0 <= one.lira.auc <= 1 for one in found)
    assert markdown(found) in page.read_text()
    assert "what uploads tell" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"setting": {}}, "no 'setting' .'setting' is perhaps 'settings'"),
        ({"settings": {}}, "settings must hold labelled configurations"),
        ({"seeds": []}, "seeds must be a list of whole numbers"),
        ({"shadows": 1}, "from 2 to 1000, got 1"),
        ({"settings": {"x": {"privacy": "none", "nothing": {}}}}, "setting 'x', task label_sets"),
    ],
)
def test_a_wrong_file_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        leakage_plan(SMALL | change)


def test_a_server_without_images_and_a_method_without_a_prompt_are_refused(tmp_path, capsys):
    for change, message in (
        ({"sampling": {"shots": 2}}, "set sampling.server_shots"),
        ({"method": "zero_shot"}, "use pfedmoap or promptfl"),
    ):
        base = SMALL["base"] | {"features": {"cache": str(tmp_path / "cache")}} | change
        (tmp_path / "plan.yaml").write_text(
            yaml.safe_dump(SMALL | {"base": base, "settings": {"plain": {}}})
        )
        with pytest.raises(SystemExit):
            leakage.main([str(tmp_path / "plan.yaml"), "--out", str(tmp_path / "leakage.json")])
        assert message in " ".join(capsys.readouterr().err.split())


def test_the_documentation_has_the_committed_figures():
    record = json.loads((ROOT / "docs" / "results" / "leakage.json").read_text())
    begin, end = marks(leakage.PLACE)
    shown = (ROOT / "docs" / "privacy.md").read_text().partition(begin)[2].partition(end)[0]
    assert shown == f"\n{markdown(from_json(record))}"
    plan = yaml.safe_load((ROOT / "eval" / "configs" / "leakage.yaml").read_text())
    assert plan == record["plan"]
