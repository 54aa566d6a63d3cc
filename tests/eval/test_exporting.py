"""Exporting a client's model from a run: same answers, a page that tells no more than it may."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pfedmoap
from eval.choices import schema
from eval.commands import export, predict, serve_model
from eval.experiment import ExperimentLoader
from eval.exporting import ExportOptions, export_model
from eval.model_privacy import coverage
from eval.running import run_experiment
from pfedmoap.errors import MethodError, RunError
from pfedmoap.exported.of_run import personal_model
from pfedmoap.serving.listener import Listener
from tests.helpers.runs import small


@pytest.fixture(scope="module")
def model(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "model"
    export.main([str(finished_run), "--client", "1", "--out", str(out), "--device", "cpu"])
    return out


@pytest.fixture(scope="module")
def private_run(
    cache: Path, loader: ExperimentLoader, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("runs") / "private"
    guarantee = {"name": "dpsgd", "epsilon": 8.0, "delta": 1e-5}
    config = schema().resolve(small(cache, privacy=guarantee))
    run_experiment(loader.prepare(config), out, progress=False)
    return out


def pictures(count: int = 3) -> list[Image.Image]:
    stream = np.random.default_rng(4)
    return [
        Image.fromarray(stream.integers(0, 255, (30, 40, 3), dtype=np.uint8)) for _ in range(count)
    ]


def test_the_folder_answers_as_the_run(model, finished_run):
    run = pfedmoap.load(finished_run).client(1, device="cpu").classify(pictures())
    alone = pfedmoap.PersonalizedClassifier.load(model, device="cpu").classify(pictures())
    for ours, theirs in zip(run, alone, strict=True):
        assert dict(theirs.ranking) == pytest.approx(dict(ours.ranking), abs=1e-5)
        assert ours.attention is not None
        assert theirs.attention is not None
        assert dict(theirs.attention) == pytest.approx(dict(ours.attention), abs=1e-5)
    assert sorted(file.name for file in model.iterdir()) == [
        "README.md",
        "head.safetensors",
        "model.json",
        "tower.safetensors",
    ]


def test_a_batch_of_one_gives_the_same_answers(model):
    classifier = pfedmoap.PersonalizedClassifier.load(model, device="cpu")
    for one, other in zip(
        classifier.classify(pictures()), classifier.classify(pictures(), batch_size=1), strict=True
    ):
        assert dict(one.ranking) == pytest.approx(dict(other.ranking), abs=1e-5)


def test_the_page_of_a_run_without_privacy(model, finished_run, tmp_path):
    page = (model / "README.md").read_text()
    assert page.startswith("---\nlicense: apache-2.0\n")
    assert "No privacy guarantee covers this model" in page
    assert "prompts of other clients of the federation (clients" in page
    assert "accuracy on the client's own test images" in page
    assert "training images |" not in page
    chosen = ExportOptions(counts=True, metrics=False, licence="mit")
    export_model(finished_run, 1, tmp_path / "told", chosen, device="cpu")
    again = pfedmoap.load(finished_run).export(1, tmp_path / "again", counts=True, metrics=False)
    told = (again / "model.json").read_text()
    assert told == (tmp_path / "told" / "model.json").read_text()
    page = (tmp_path / "told" / "README.md").read_text()
    entry = json.loads((finished_run / "task.json").read_text())["clients"][1]
    assert f"| the digit 0 | {entry['train'][0]} | {entry['test'][0]} |" in page
    assert "accuracy on" not in page
    assert "license: mit" in page


def test_the_model_of_a_private_run_is_its_owners_and_says_what_is_not_covered(
    private_run, tmp_path, capsys
):
    out = tmp_path / "model"
    export.main([str(private_run), "--client", "0", "--out", str(out), "--device", "cpu"])
    assert "guarantee does not cover this model" in capsys.readouterr().err
    page = (out / "README.md").read_text()
    assert "This model is not covered by that" in page
    assert "epsilon" in page
    assert "accuracy on" not in page
    assert {file.stat().st_mode & 0o777 for file in out.iterdir()} == {0o600}
    assert out.stat().st_mode & 0o777 == 0o700


PROMISE = {
    "mechanism": {"name": "dpsgd decoupled", "delta": 1e-5},
    "epsilon_budget": 8.0,
    "unit": "one training example of one client",
    "neighbours": "add or remove one example",
    "private": "the sequence of all uploads of a client",
    "caveats": [],
    "is_private": True,
}


def test_a_model_is_covered_where_noise_covers_all_that_is_in_it(
    private_run, cache, loader, tmp_path
):
    gated = personal_model(private_run, 0, "cpu")
    assert not coverage(gated, PROMISE, 8.0).covered
    joint = {**PROMISE, "mechanism": {"name": "dpsgd joint", "delta": 1e-5}}
    assert coverage(gated, joint, 8.0).covered
    assert not coverage(gated, {**joint, "is_private": False}, 8.0).covered
    assert not coverage(gated, {}, 0.0).covered
    config = schema().resolve(small(cache, method={"name": "promptfl", "context_length": 2}))
    run_experiment(loader.prepare(config), tmp_path / "common", progress=False)
    common = personal_model(tmp_path / "common", 0, "cpu")
    assert coverage(common, PROMISE, 8.0).covered  # it is the server's prompt


def test_a_folder_that_holds_something_and_a_client_that_is_none(model, finished_run, tmp_path):
    before = {file.name: file.read_bytes() for file in model.iterdir()}
    with pytest.raises(RunError, match=r"choose another folder with --out"):
        export_model(finished_run, 1, model)
    assert {file.name: file.read_bytes() for file in model.iterdir()} == before
    with pytest.raises(RunError, match="no client 99"):
        export_model(finished_run, 99, tmp_path / "none")


def test_nothing_is_left_of_an_export_that_failed(finished_run, tmp_path, monkeypatch):
    def fails(*_: object) -> None:
        raise MethodError("it cannot be traced")

    monkeypatch.setattr("eval.exporting.require_torch", lambda: None)
    monkeypatch.setattr("eval.exporting.trace", fails)
    with pytest.raises(MethodError):
        export_model(finished_run, 1, tmp_path / "model", ExportOptions(torch_export=True), "cpu")
    assert list(tmp_path.iterdir()) == []


def test_load_says_what_it_was_given(model, finished_run, tmp_path):
    load = pfedmoap.PersonalizedClassifier.load
    with pytest.raises(RunError, match="leave the client out"):
        load(model, 1)
    with pytest.raises(RunError, match="say which client"):
        load(finished_run)
    with pytest.raises(RunError, match="say which client"):
        load(tmp_path)


def test_an_exported_model_is_served(model, monkeypatch, capsys):
    served: list[str] = []
    monkeypatch.setattr(Listener, "serve_forever", lambda listener: served.append(listener.url))
    serve_model.main([str(model), "--port", "0", "--device", "cpu"])
    assert capsys.readouterr().out == f"{model} at {served[0]}; stop with Ctrl-C\n"


def test_predict_takes_the_folder(model, tmp_path, capsys):
    pictures(1)[0].save(tmp_path / "one.png")
    predict.main([str(model), str(tmp_path / "one.png"), "--json", "true", "--device", "cpu"])
    (answer,) = json.loads(capsys.readouterr().out)
    (expected,) = pfedmoap.PersonalizedClassifier.load(model, device="cpu").classify(
        [tmp_path / "one.png"]
    )
    assert answer["probabilities"] == pytest.approx(dict(expected.ranking), abs=1e-6)
    assert answer["class"] == expected.ranking[0][0]


def test_a_folder_is_pushed_again_as_it_is(model, monkeypatch, capsys):
    pushed: list[tuple[Path, str, bool]] = []

    def push(folder: Path, repository: str, *, private: bool) -> str:
        pushed.append((folder, repository, private))
        return "http://hub/me/model"

    monkeypatch.setattr("pfedmoap.exported.hub.push", push)
    export.main([str(model), "--push", "me/model"])
    export.main([str(model), "--push", "me/model", "--public"])
    assert pushed == [(model, "me/model", True), (model, "me/model", False)]
    assert capsys.readouterr().out == "pushed to http://hub/me/model\n" * 2
    for options, said in (
        (["--push", "me/model", "--client", "1", "--onnx"], "leave out --client, --onnx"),
        ([], "is an exported model already"),
    ):
        with pytest.raises(SystemExit):
            export.main([str(model), *options])
        assert said in capsys.readouterr().err
    assert len(pushed) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--push", "nowhere"], "expected user/name"),
        (["--license", "any: thing"], "--license must be a short name"),
        (["--public", "true"], "--public is for --push"),
    ],
)
def test_wrong_options_end_before_any_work(options, said, finished_run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        export.main([str(finished_run), "--client", "1", "--out", str(tmp_path / "m"), *options])
    assert said in capsys.readouterr().err
    assert not (tmp_path / "m").exists()
