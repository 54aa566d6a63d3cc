"""Base to new, leave one domain out and cross-dataset, of single runs and in comparisons."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eval.choices import schema
from eval.commands import evaluate
from eval.comparison.cells import read_results, run_comparison
from eval.comparison.csv_tables import table_csv
from eval.comparison.spec import comparison
from eval.comparison.summary import table_rows
from eval.comparison.tables import markdown
from eval.experiment import ExperimentLoader
from eval.holdout import domain_part
from eval.protocols import Protocols, figures_by
from eval.report.build import build_report
from eval.running import run_experiment
from pfedmoap.data.scenes.reader import Scenes
from pfedmoap.errors import ConfigError
from pfedmoap.methods.registry import Methods
from tests.helpers.runs import small

SCENES = {"name": "scenes", "styles": ["photo", "thermal"], "train_per_cell": 1, "test_per_cell": 1}
DIGITS = {"name": "digits", "test_fraction": 0.05}


def sections(cache: Path, **more: Any) -> dict[str, Any]:
    base = small(cache, data=SCENES, partition={"name": "iid", "clients": 3})
    return base | {"rounds": {"rounds": 1}, "backbone": {"device": "cpu"}} | more


def found(loader: ExperimentLoader, config: dict[str, Any], elsewhere: Any = None) -> Any:
    experiment = loader.prepare(schema().resolve(config))
    now = run_experiment(experiment, None, progress=False).final
    protocols = Protocols.of(experiment.config, elsewhere)
    tested = figures_by(protocols, experiment, now, loader)
    assert protocols.done(tested)
    assert not protocols or not protocols.done({})
    return experiment, tested


def zero_shot_accuracy(experiment: Any, dataset: Any) -> float:
    """The slow truth: encode each test image and each sentence."""
    clip = experiment.method.setting.backbone
    index = np.flatnonzero(dataset.is_test)
    pixels = torch.stack([clip.preprocessing.centre(dataset.load(int(i))) for i in index])
    text = sum(
        clip.text_features([template.format(name) for name in dataset.class_names])
        for template in dataset.templates
    )
    answers = (clip.image_features(pixels) @ torch.nn.functional.normalize(text, dim=-1).T).argmax(
        -1
    )
    return float((answers.numpy() == dataset.labels[index]).mean())


def test_zero_shot_on_the_domain_left_out_and_on_other_data_by_brute_force(cache, loader):
    config = sections(
        cache, method={"name": "zero_shot"}, sampling={"shots": 1, "left_out_domain": "thermal"}
    )
    experiment, tested = found(loader, config, {"numbers": DIGITS})
    assert experiment.federation.dataset.domain_names == ("photo",)
    whole = schema().resolve(config).build("data").read()
    thermal = domain_part(whole, "thermal", left_out=True)
    assert len(thermal) == len(whole) // 2
    assert tested["left_out"] == pytest.approx(zero_shot_accuracy(experiment, thermal))
    digits = loader.other_dataset(DIGITS)
    assert tested["elsewhere"] == {"numbers": pytest.approx(zero_shot_accuracy(experiment, digits))}


def test_no_client_has_an_image_of_the_domain_left_out():
    styles = ("photo", "negative", "thermal")
    whole = Scenes(styles=styles, train_per_cell=1, test_per_cell=1).read()
    rest = domain_part(whole, "negative", left_out=False)
    alone = domain_part(whole, "negative", left_out=True)
    assert rest.domain_names == ("photo", "thermal")
    assert len(rest) + len(alone) == len(whole)
    assert alone.domain_names == ("negative",)
    assert alone.domains.max() == 0
    assert len({whole.fingerprint, rest.fingerprint, alone.fingerprint}) == 3
    for part in (rest, alone):
        names = np.array(part.domain_names)[part.domains]
        for image in range(0, len(part), 7):
            matches = [
                number
                for number in np.flatnonzero(whole.labels == part.labels[image])
                if whole.domain_names[whole.domains[number]] == names[image]
                and whole.load(int(number)).tobytes() == part.load(image).tobytes()
            ]
            assert matches


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"sampling": {"left_out_domain": "thermic"}}, "no domain 'thermic'; nearest: thermal"),
        ({"data": DIGITS, "sampling": {"left_out_domain": "a"}}, "digits has no domains"),
    ],
)
def test_a_domain_that_there_is_not_is_refused(cache, loader, change, why):
    with pytest.raises(ConfigError, match=why):
        loader.prepare(schema().resolve(sections(cache, **change)))


@pytest.mark.parametrize("name", ["fedper", "fedclip", "pfedprompt"])
def test_every_protocol_holds_for_methods_or_they_say_why_not(cache, loader, name, caplog):
    sampling = {"shots": 1, "classes": "base", "left_out_domain": "thermal"}
    config = sections(cache, method={"name": name}, sampling=sampling)
    _, tested = found(loader, config, {"digits": DIGITS})
    assert 0 < tested["left_out"] <= 1
    if name == "pfedprompt":
        assert tested["new"] is tested["harmonic"] is tested["elsewhere"]["digits"] is None
        assert "a client's memory knows the classes of its training images" in caplog.text
    else:
        assert 0 < tested["new"] <= 1
        assert 0.3 < tested["elsewhere"]["digits"] <= 1
    assert name in Methods()


def test_validation_runs_look_at_no_test_image(cache):
    config = schema().resolve(
        sections(cache, sampling={"left_out_domain": "thermal", "validation": 0.5})
    )
    assert not Protocols.of(config, {"digits": DIGITS})


def plan(cache: Path, **more: Any):
    base = sections(cache)
    del base["method"]
    base["sampling"] = {"shots": 1, "left_out_domain": "thermal"}
    methods = {
        "zero-shot": {"method": "zero_shot"},
        "bound": {"method": {"name": "pfedprompt", "context_length": 2}},
    }
    return comparison({"base": base, "methods": methods, **more})


def test_comparisons_have_columns_and_may_grow_by_other_data(cache, tmp_path):
    run_comparison(plan(cache), tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.safetensors")}
    assert before
    results = run_comparison(plan(cache, elsewhere={"Numbers": DIGITS}), tmp_path, resume=True)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.safetensors")} == before
    first, bound = table_rows(results)
    assert first.left_out is not None
    assert bound.left_out is not None
    assert set(first.elsewhere) == {"Numbers"}
    assert bound.elsewhere == {}
    lines = markdown(results).splitlines()
    assert "domain left out %" in lines[2]
    assert "on Numbers %" in lines[2]
    assert (
        table_csv(results)
        .splitlines()[0]
        .endswith(",left_out,left_out_std,on Numbers,on Numbers_std")
    )
    assert table_rows(read_results(tmp_path)) == [first, bound]
    page = build_report([tmp_path], ExperimentLoader(progress=False), None, None)
    assert "on Numbers %" in page
    assert "domain left out %" in page


@pytest.mark.parametrize(
    ("elsewhere", "why"),
    [
        ({"Pets": "oxford_pest"}, "elsewhere.Pets: no data 'oxford_pest'; nearest: oxford_pets"),
        ({"Pets": {"name": "digits", "root": "x"}}, "elsewhere.Pets"),
        (["digits"], "elsewhere must hold at least one labelled"),
    ],
)
def test_mistakes_in_other_data_are_named_before_anything_runs(cache, elsewhere, why):
    with pytest.raises(ConfigError, match=why):
        plan(cache, elsewhere=elsewhere)


def test_evaluate_tests_a_run_on_other_data(finished_run, capsys):
    evaluate.main(
        [
            str(finished_run),
            "--on",
            "{name: scenes, test_per_cell: 1, train_per_cell: 1, styles: [thermal, photo]}",
        ]
    )
    shown = capsys.readouterr().out
    assert "on other data" in shown
    assert "scenes" in shown
    with pytest.raises(SystemExit):
        evaluate.main([str(finished_run), "--on", "[1]"])
    assert "--on must be a data set" in " ".join(capsys.readouterr().err.split())


def test_data_to_test_on_alone_cannot_be_trained_with(cache, loader, monkeypatch):
    def read(self: Scenes) -> Any:
        whole = original(self)
        return domain_part(whole, "photo", left_out=True).__class__(
            "sketches",
            whole.class_names,
            whole.labels,
            np.ones(len(whole), dtype=np.bool_),
            whole.load,
            "sketches",
        )

    original = Scenes.read
    monkeypatch.setattr(Scenes, "read", read)
    with pytest.raises(ConfigError, match="sketches has test images alone"):
        loader.prepare(schema().resolve(sections(cache, data={**SCENES, "seed": 5})))
