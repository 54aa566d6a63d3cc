"""Trackers for real and offline: a run that stops and goes on, read back by each's own reader."""

import csv
import gc
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from PIL import Image

import pfedmoap
from eval.api.callbacks import RoundReport
from eval.experiment import ExperimentLoader
from eval.tracking import pictures
from eval.tracking.choose import KINDS
from eval.tracking.to_csv import CSVTracker
from eval.tracking.to_mlflow import MLflowTracker
from eval.tracking.to_tensorboard import TensorBoardTracker
from eval.tracking.to_wandb import WandBTracker
from eval.tracking.tracker import Final, Tracked, Tracking
from tests.helpers.runs import small
from tests.helpers.wandb_file import history, records

PACKAGES = {"csv": "csv", "tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}


pytestmark = [  # of MLflow and of W&B
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning"),
]


class Stop(pfedmoap.Callback):
    def on_round_end(self, report):
        raise KeyboardInterrupt


class Spy:
    """A tracker that notes what it is told, and fails where it should."""

    kind = "spy"

    def __init__(self, failing=()):
        self.told, self.failing, self.calls = [], failing, 0

    def _call(self, *what):
        self.calls += 1
        if self.calls in self.failing:
            raise OSError(28, "No space left on device")
        self.told.append(what)

    def open(self, tracked, known, noted):
        self._call("open", known, noted)
        return {"id": 7}, None

    def log(self, figures, clients):
        self._call("log", figures["round"], sorted(figures), [sorted(row) for row in clients])

    def finish(self, final: Final):
        self._call("finish", final)

    def close(self):
        self.told.append(("close",))


@pytest.fixture(scope="module")
def tracked(cache, tmp_path_factory) -> pfedmoap.Run:
    """A run with every tracker that is installed: stopped after round 1, continued twice."""
    out = tmp_path_factory.mktemp("runs") / "tracked"
    kinds = [kind for kind, package in PACKAGES.items() if _installed(package)]
    config = small(cache, rounds={"rounds": 3})
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_MODE"):
            patch.delenv(name, raising=False)
        with pytest.raises(KeyboardInterrupt):
            pfedmoap.train(config, out=out, track=kinds, callbacks=[Stop()])
        pfedmoap.train(config, out=out, track=kinds, resume=True)
        again = ",".join(kind for kind in kinds if kind != "wandb")  # which starts a process
        run = pfedmoap.train(config, out=out, track=again, resume=True)
    gc.collect()
    return run


@pytest.fixture
def plain(monkeypatch):
    """Draws no pictures, which takes a second."""
    monkeypatch.setattr("eval.tracking.tracker.pictures_of", lambda run, loader: [])


def _installed(package: str) -> bool:
    try:
        __import__(package)
    except ImportError:
        return False
    return True


def folder(run: pfedmoap.Run) -> Path:
    return run.path / "tracking"


def test_each_name_is_that_of_a_tracker():
    made = (CSVTracker(), TensorBoardTracker(), MLflowTracker(), WandBTracker())
    assert [one.kind for one in made] == list(KINDS)


def test_csv_has_each_round_once_the_tables_and_the_pictures(tracked):
    place = folder(tracked) / "csv"
    rounds = list(csv.DictReader(io.StringIO((place / "rounds.csv").read_text())))
    assert [int(row["round"]) for row in rounds] == [1, 2, 3]
    for name in ("mean", "worst_decile", "global_union", "train_loss", "up_bytes"):
        expected = tracked.metrics.column(name)
        assert [float(row[name]) if row[name] else None for row in rounds] == expected
    clients = list(csv.DictReader(io.StringIO((place / "clients.csv").read_text())))
    assert [int(row["client"]) for row in clients] == [0, 1, 2, 3]
    assert {"accuracy", "macro_f1", "train_images", "up_bytes", "rounds"} <= set(clients[0])
    long = list(csv.DictReader(io.StringIO((place / "clients_by_round.csv").read_text())))
    assert len(long) == 12
    assert yaml.safe_load((place / "config.yaml").read_text()) == dict(tracked.config)
    pictures = sorted(place.glob("*.png"))
    assert len(pictures) >= 5
    assert all(Image.open(io.BytesIO(file.read_bytes())).width > 500 for file in pictures)


def test_pictures_are_drawn_once_for_all_trackers_and_anew_for_another_round(tracked, monkeypatch):
    known = pictures.pictures_of(tracked.path, ExperimentLoader())
    assert len(known) >= 5

    def drawn(evidence):
        raise NotImplementedError

    monkeypatch.setattr(pictures, "run_part", drawn)
    assert pictures.pictures_of(tracked.path, ExperimentLoader()) == known
    monkeypatch.setattr(pictures, "read_manifest", lambda run: "that of another round")
    with pytest.raises(NotImplementedError):
        pictures.pictures_of(tracked.path, ExperimentLoader())


def test_tensorboard_reads_each_step_once(tracked):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(
        str(folder(tracked) / "tensorboard"), {"images": 0, "tensors": 0, "histograms": 0}
    )
    found.Reload()
    for name in ("mean", "worst_decile", "global_union", "train_loss", "up_bytes"):
        steps = [(one.step, one.value) for one in found.Scalars(name)]
        values = tracked.metrics.column(name)
        assert steps == [(step, pytest.approx(value)) for step, value in enumerate(values, 1)]
    assert [one.step for one in found.Histograms("clients/accuracy")] == [1, 2, 3]
    images = found.Tags()["images"]
    assert len(images) == len(list((folder(tracked) / "csv").glob("*.png")))
    assert all(len(found.Images(name)) == 1 for name in images)
    text = found.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "context_length: 2" in text
    table = found.Tensors("clients/table/text_summary")
    assert len(table) == 1
    assert "| client |" in table[0].tensor_proto.string_val[0].decode()


def test_mlflow_reads_one_run_with_each_step_once(tracked):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder(tracked) / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("pfedmoap")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("tracked", "FINISHED")
    for name in ("mean", "worst_decile", "global_union", "train_loss", "up_bytes"):
        history = [
            (one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)
        ]
        values = tracked.metrics.column(name)
        assert sorted(history) == [(s, pytest.approx(value)) for s, value in enumerate(values, 1)]
    assert run.data.params["method.context_length"] == "2"
    assert run.data.params["rounds.rounds"] == "3"
    assert set(run.data.tags) == {"mlflow.runName"}
    names = {one.path for one in client.list_artifacts(run.info.run_id)}
    assert names == {"clients.csv", "clients_by_round.csv", "config.yaml", "report"}
    assert len(client.list_artifacts(run.info.run_id, "report")) >= 5


def test_runs_that_begin_at_once_share_one_data_base_and_may_move_with_it(tmp_path):
    """Two processes of a sweep made it at a time, and left one that MLflow could not open."""
    pytest.importorskip("mlflow")
    home = tmp_path / "sweep" / "tracking"
    made = [MLflowTracker() for _ in range(2)]
    runs = [tmp_path / "sweep" / "cells" / str(i) for i in range(2)]
    told = [Tracked(f"run {i}", run, home, {}, {}, "sweep") for i, run in enumerate(runs)]
    with ThreadPoolExecutor() as pool:
        found = list(
            pool.map(lambda one: one[0].open(one[1], None, 0), zip(made, told, strict=True))
        )
    assert len({identity["run_id"] for identity, _ in found}) == 2
    made[0].log({"round": 1, "mean": 0.5}, [])
    (tmp_path / "sweep").rename(tmp_path / "moved")
    moved = tmp_path / "moved"
    again = Tracked(
        "run 0", moved / "cells" / "0", moved / "cells" / "0" / "tracking", {}, {}, None
    )
    assert MLflowTracker().open(again, found[0][0], 0) == (found[0][0], 1)
    assert not list(moved.rglob(".mlflow-*"))
    gc.collect()


def test_wandb_files_hold_one_run_with_each_step_once(tracked):
    """Two files, one a start, with one id; and nothing of the machine, its user or its code."""
    pytest.importorskip("wandb")
    files = sorted((folder(tracked) / "wandb").glob("offline-run-*/*.wandb"))
    assert len({file.name for file in files}) == 1
    assert len(files) == 2
    rows = [row for file in files for row in history(file)]
    steps = [row["_step"] for row in rows if "mean" in row]
    assert steps == [1, 2, 3]
    for name in ("mean", "worst_decile", "global_union", "train_loss", "up_bytes"):
        logged = [row[name] for row in rows if "mean" in row]
        assert logged == pytest.approx(tracked.metrics.column(name))
    last = {key for row in rows for key in row}
    assert any(key.startswith("clients") for key in last)
    assert any(key.startswith("report/") for key in last)
    kinds = {one.WhichOneof("record_type") for file in files for one in records(file)}
    assert not kinds & {"stats", "output", "output_raw"}
    for file in files:
        (begun,) = [one.run for one in records(file) if one.WhichOneof("record_type") == "run"]
        config = {item.key: json.loads(item.value_json) for item in begun.config.update}
        assert config["method"]["context_length"] == 2
        assert begun.git.remote_url == ""
        assert not list(file.parent.glob("files/*requirements*"))
        assert not list(file.parent.glob("files/*metadata*"))


def test_a_tracker_that_is_asked_for_later_gets_all_rounds_and_one_that_lacks_some_those(
    cache, tmp_path
):
    spy = Spy()
    config = small(cache)
    run = pfedmoap.train(config, out=tmp_path / "run")
    tracking = Tracking(spy, run.path)
    tracking.on_train_begin({})
    assert [told[:2] for told in spy.told] == [("open", None), ("log", 1), ("log", 2)]
    tracking.close()
    again = Spy()
    Tracking(again, run.path).on_train_begin({})
    assert again.told == [("open", {"id": 7}, 2)]


@pytest.mark.parametrize("failing", [{1}, {2}, {3}, {1, 2}, {4}])
def test_a_tracker_that_fails_is_told_later_and_the_run_is_the_same(
    plain, cache, tmp_path, failing, caplog, finished_run
):
    spy = Spy(failing)
    run = pfedmoap.train(
        small(cache), out=tmp_path / "run", callbacks=[Tracking(spy, tmp_path / "run")]
    )
    assert run.metrics.column("mean") == pfedmoap.load(finished_run).metrics.column("mean")
    assert [told[1] for told in spy.told if told[0] == "log"] == [1, 2]
    assert "tracker spy of" in caplog.text
    assert "No space left on device" in caplog.text
    assert len([one for one in caplog.records if one.name == "eval.tracking.tracker"]) == len(
        failing
    )
    assert ("finish" in [told[0] for told in spy.told]) == (failing != {4})


def test_a_tracker_that_is_gone_is_left_alone_after_three_failures(cache, tmp_path, caplog):
    spy = Spy(set(range(1, 99)))
    config = small(cache, rounds={"rounds": 5})
    run = pfedmoap.train(config, out=tmp_path / "run", callbacks=[Tracking(spy, tmp_path / "run")])
    assert run.round == 5
    assert spy.calls == 3
    assert caplog.text.count("could not") == 3
    assert "the run is whole without it" in caplog.text


def test_a_disk_that_cannot_be_written_kills_no_run(plain, cache, tmp_path, caplog):
    run = tmp_path / "run"
    kinds = [kind for kind, package in PACKAGES.items() if _installed(package)]

    class Block(pfedmoap.Callback):
        def on_train_begin(self, privacy):
            (run / "tracking").write_text("no folder")

    pfedmoap.train(small(cache, rounds={"rounds": 1}), out=run, track=kinds, callbacks=[Block()])
    assert pfedmoap.load(run).round == 1
    for kind in kinds:
        assert f"tracker {kind} of" in caplog.text


def test_of_a_private_run_a_tracker_is_told_what_is_public_and_no_more(cache, tmp_path):
    spy = Spy()
    out = tmp_path / "run"
    privacy = {"name": "dpsgd", "epsilon": 8.0, "delta": 1e-3, "max_grad_norm": 1.0}
    method = {"name": "promptfl", "context_length": 2}
    config = small(cache, privacy=privacy, method=method, rounds={"rounds": 1})
    pfedmoap.train(config, out=out, callbacks=[Tracking(spy, out)], track="csv")
    _, logged, finished, _ = spy.told
    assert set(logged[2]) <= {"round", "down_bytes", "up_bytes", "rejected", "epsilon"}
    assert "epsilon" in logged[2]
    final = finished[1]
    assert final.pictures == []
    assert set(final.files) == {
        "config.yaml",
        "clients.csv",
        "clients_by_round.csv",
        "privacy.yaml",
    }
    assert all(row["accuracy"] is None and row["train_loss"] is None for row in final.by_round)
    secret = {"accuracy", "macro_f1", "train_images", "test_images"}
    assert not secret & {name for row in final.clients for name in row}
    written = "".join(file.read_text() for file in (out / "tracking" / "csv").iterdir())
    private = json.loads((out / "private" / "metrics.jsonl").read_text().splitlines()[0])
    for value in private["accuracy"].values():
        assert f"{value!r}\n" not in written
        assert f",{value!r}," not in written or value in (0.0, 1.0)


def test_a_secret_cohort_is_kept_from_a_tracker(cache, tmp_path):
    """The record that a callback gets has it; what a tracker gets is read from the public log."""
    spy = Spy()
    out = tmp_path / "run"
    privacy = {"name": "central", "epsilon": 8.0, "delta": 1e-3, "max_update_norm": 1.0}
    method = {"name": "promptfl", "context_length": 2}
    rounds = {"rounds": 1, "participation": 0.5}
    seen: list[RoundReport] = []

    class Look(pfedmoap.Callback):
        def on_round_end(self, report):
            seen.append(report)

    config = small(cache, privacy=privacy, method=method, rounds=rounds)
    pfedmoap.train(config, out=out, callbacks=[Look(), Tracking(spy, out)])
    assert seen[0].record["cohort"]
    final = spy.told[2][1]
    assert not any("rounds" in row for row in final.clients)
    assert all(row["up_bytes"] is None for row in final.by_round)
