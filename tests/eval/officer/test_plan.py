"""A plan's epsilon is what the run then spends, and its noise is what the mechanism adds."""

import json
from pathlib import Path

import pytest
import torch

from eval.choices import schema
from eval.commands.privacy import main
from eval.experiment import ExperimentLoader
from eval.ledgers import read_statements
from eval.officer.noised import stepped_size, uploaded_size
from eval.officer.plan import first_above, make_plan, shown_rounds
from pfedmoap.errors import ConfigError
from privacy.mechanisms.noisy_sum import draw_noise
from privacy.mechanisms.randomness import SecureStream
from tests.helpers.runs import private, small


def planned(loader: ExperimentLoader, cache: Path, **changes: object):
    return make_plan(schema().resolve(private(cache) | changes), loader)


def test_the_plan_equals_what_the_run_spends(
    private_run: Path, loader: ExperimentLoader, cache: Path
):
    plan = planned(loader, cache)
    spent = {one.client: one for one in read_statements(private_run / "ledgers")}
    told = {client: each for each in plan.clients for client in each.clients}
    assert set(spent) == {client for client, each in told.items() if each.rounds}
    for client, one in spent.items():
        assert told[client].epsilon == one.total
        assert told[client].units == one.accounts[0].units
        assert one.accounts[0].mechanism["noise_multiplier"] == plan.noise.multiplier
    assert len({each.epsilon for each in plan.clients}) > 1  # clients differ
    assert plan.rounds[-1] == max(one.total for one in spent.values())


@pytest.mark.parametrize("mode", ["joint", "decoupled"])
def test_the_noised_numbers_are_those_that_the_step_trains(
    mode: str, loader: ExperimentLoader, cache: Path
):
    """The gate is among them in `joint` alone."""
    config = schema().resolve(small(cache, privacy={"name": "dpsgd", "mode": mode}))
    method = loader.method(config)
    prompt = 2 * method.setting.backbone.text_width
    gate = sum(value.numel() for value in method.initial_gate.values()) if mode == "joint" else 0
    assert stepped_size(method, mode == "decoupled") == prompt + gate
    assert uploaded_size(method) == prompt


def test_the_expected_norm_is_that_of_drawn_noise(loader: ExperimentLoader, cache: Path):
    noise = planned(loader, cache).noise
    assert noise.numbers is not None
    assert noise.norm is not None
    drawn = [
        torch.linalg.vector_norm(
            draw_noise(noise.std, noise.numbers, SecureStream(bytes([i] * 32)))
        )
        for i in range(20)
    ]
    assert float(torch.stack(drawn).mean()) == pytest.approx(noise.norm, rel=0.05)


def test_a_client_sits_out_once_the_budget_is_spent(loader: ExperimentLoader, cache: Path):
    little = {"name": "dpsgd", "epsilon": 3.0, "delta": 1e-3, "noise_multiplier": 1.0}
    plan = planned(loader, cache, privacy=little, rounds={"rounds": 20})
    [each] = plan.clients
    assert each.drawn == 20
    assert 0 < each.rounds < 20
    assert plan.rounds[each.rounds - 1] == each.epsilon <= 3.0 < plan.rounds[each.rounds]


def test_uploads_and_means_have_plans_too(loader: ExperimentLoader, cache: Path):
    release = planned(loader, cache, privacy={"name": "release"})
    assert release.noise.std == 2 * release.noise.multiplier * release.noise.clip
    central = planned(loader, cache, privacy={"name": "central"})
    [each] = central.clients
    assert (each.clients, each.drawn) == ((-1,), 3)
    assert central.noise.divisor == 2.0  # half of four clients


def test_the_command_shows_it_and_runs_nothing(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(private(cache)))
    main(["plan", str(file), "--privacy.epsilon", "4"])
    shown = capsys.readouterr().out
    assert "Budget: epsilon 4 at delta 0.001" in shown
    assert "times the clipping norm" in shown
    assert "│ rounds │ steps │ epsilon │" in shown.replace("┃", "│")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json"]


def test_no_privacy_has_no_plan(loader: ExperimentLoader, cache: Path):
    with pytest.raises(ConfigError, match="promises no privacy"):
        planned(loader, cache, privacy={"name": "none"})


def test_rows_of_a_long_run():
    assert shown_rounds([0.0] * 3) == [1, 2, 3]
    long = shown_rounds([0.0] * 100)
    assert (long[0], long[-1], len(long)) == (1, 100, 12)
    assert first_above(5, lambda count: count > 0) == 0
