"""New classes and clients that never took part."""

from pathlib import Path
from typing import Any

import pytest
import torch

from eval.choices import schema
from eval.commands.evaluate import main
from eval.experiment import ExperimentLoader
from eval.generalisation import base_to_new, harmonic_mean, over_classes
from eval.running import run_experiment
from pfedmoap.errors import ConfigError
from pfedmoap.wire.messages import ClientId
from tests.helpers.runs import small


def test_harmonic_mean_by_hand():
    assert harmonic_mean([0.5, 1.0]) == pytest.approx(2 / 3)
    assert harmonic_mean([0.5, 0.0]) == 0.0


def test_zero_shot_on_new_classes_is_zero_shot_over_the_new_names(
    cache: Path, loader: ExperimentLoader
):
    sections = small(cache, method={"name": "zero_shot"}, sampling={"shots": 4, "classes": "base"})
    experiment = loader.prepare(schema().resolve(sections))
    now = run_experiment(experiment, None, progress=False).final
    found = base_to_new(experiment, now)
    method: Any = over_classes(experiment.method, tuple(f"the digit {d}" for d in range(5, 10)))
    whole = loader.prepare(schema().resolve(small(cache, partition={"name": "iid", "clients": 4})))
    right = total = 0
    for client in whole.federation.clients.values():
        keep = client.test.labels >= 5
        logits = method.predict_global(None, {"image": client.test.view()["image"][keep]}).logits
        right += int((logits.argmax(-1).cpu() == client.test.labels[keep] - 5).sum())
        total += int(keep.sum())
    assert found.new == pytest.approx(right / total)
    assert found.harmonic == pytest.approx(harmonic_mean([found.base, found.new]))


def test_trained_state_carries_over_and_is_not_changed(cache: Path, loader: ExperimentLoader):
    sections = small(cache, sampling={"shots": 4, "classes": "base"})
    experiment = loader.prepare(schema().resolve(sections))
    now = run_experiment(experiment, None, progress=False).final
    before = {k: v.clone() for k, v in now.local_states[ClientId(0)].items()}
    found = base_to_new(experiment, now)
    assert sorted(found.by_client) == [0, 1, 2, 3]
    assert 0 < found.new <= 1
    scores = experiment.test(now)
    assert [own for own, _, _ in found.by_client.values()] == [one.accuracy for one in scores]
    assert all(torch.equal(before[k], v) for k, v in now.local_states[ClientId(0)].items())


def test_a_run_on_all_classes_is_refused(cache: Path, loader: ExperimentLoader):
    experiment = loader.prepare(schema().resolve(small(cache)))
    now = run_experiment(experiment, None, progress=False).final
    with pytest.raises(ConfigError, match=r"sampling\.classes=base"):
        base_to_new(experiment, now)


def test_unseen_clients_never_train_and_answer_with_what_they_are_sent(
    cache: Path, loader: ExperimentLoader
):
    sections = small(cache, sampling={"shots": 4, "unseen_clients": 1})
    experiment = loader.prepare(schema().resolve(sections))
    outcome = run_experiment(experiment, None, progress=False)
    (held_out,) = experiment.unseen
    assert held_out not in outcome.final.local_states
    (one,) = [score for score in outcome.scores if score.unseen]
    assert one.client == held_out
    assert one.accuracy == one.global_accuracy  # pFedMoAP serves a newcomer the global prompt


def test_fine_tuning_spares_unseen_clients(cache: Path, loader: ExperimentLoader):
    sections = small(
        cache,
        sampling={"shots": 4, "unseen_clients": 1},
        method={"name": "promptfl_ft", "context_length": 2},
    )
    outcome = run_experiment(loader.prepare(schema().resolve(sections)), None, progress=False)
    (one,) = [score for score in outcome.scores if score.unseen]
    assert one.accuracy == one.global_accuracy


def test_evaluate_command_prints_domains_and_new_classes(
    cache: Path, loader: ExperimentLoader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    sections = small(
        cache,
        data={"name": "scenes", "styles": ["photo", "negative"], "train_per_cell": 4},
        partition={"name": "domain", "clients_per_domain": 2, "alpha": 5.0},
        sampling={"shots": 4, "classes": "base"},
        rounds={"rounds": 1},
    )
    run_experiment(loader.prepare(schema().resolve(sections)), tmp_path / "run", progress=False)
    main([str(tmp_path / "run")])
    shown = capsys.readouterr().out
    for name in ("photo", "negative", "new classes", "harmonic mean"):
        assert name in shown
