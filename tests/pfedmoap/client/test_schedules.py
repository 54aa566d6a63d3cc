"""Step sizes over time against PyTorch's own schedulers, and in the loop of local training."""

from dataclasses import replace

import pytest
import torch

from pfedmoap.client.batches import Stream, shuffled_epochs
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.client.schedules import WARM_UP_RATE, Clock, Schedule, scheduled_rates
from pfedmoap.errors import ConfigError
from pfedmoap.methods.pfedmoap.method import PFedMoAP
from pfedmoap.methods.promptfl import PromptFL
from pfedmoap.methods.scaffold_pt import ScaffoldPT
from tests.helpers.training_steps import data, run_rounds, setting

__all__ = ["data", "setting"]

RATE = 0.002


def epochs_of(schedule: Schedule, epochs: int) -> list[float]:
    return schedule.rates(RATE, torch.arange(epochs), epochs).tolist()


def test_cosine_is_pytorchs():
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=RATE)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=5)
    expected = []
    for _ in range(5):
        expected.append(theirs.get_last_lr()[0])
        optimiser.step()
        theirs.step()
    assert epochs_of(Schedule("cosine"), 5) == pytest.approx(expected)


def test_released_schedule_has_the_mean_of_the_released_runs_first_client():
    """One epoch at 1e-5, then the cosine from its start: .00116 on average over five epochs."""
    found = epochs_of(Schedule("cosine", warm_up=1), 5)
    assert found[0] == pytest.approx(1e-5)
    assert found[1] == pytest.approx(RATE)
    assert sum(found) / 5 == pytest.approx(0.00116, abs=1e-5)


def test_warm_up_alone_and_for_step_sizes_below_it():
    assert epochs_of(Schedule(warm_up=2), 4) == pytest.approx([1e-5, 1e-5, RATE, RATE])
    assert Schedule(warm_up=2).rates(1e-7, torch.arange(4), 4).tolist() == pytest.approx([1e-7] * 4)
    assert not Schedule().changes
    assert WARM_UP_RATE == 1e-5


def test_steps_of_an_epoch_share_its_step_size_whatever_the_clients_size():
    plan = shuffled_epochs([7, 3, 0], 1, [Stream(0, c, 1) for c in (0, 1, 2)], 2, 3)
    rates = scheduled_rates(
        {"context": RATE, "gate": 1.0},
        {"context": Schedule("cosine"), "gate": Schedule()},
        plan,
        Clock(2),
    )
    assert set(rates) == {"context"}  # a constant one stays a number
    seven, three, _ = rates["context"].T.tolist()
    assert seven == pytest.approx([RATE] * 3 + [RATE / 2] * 3)
    assert three[:2] == pytest.approx([RATE, RATE / 2])


def test_horizon_of_a_run_goes_on_from_round_to_round():
    found = []
    for round in (1, 2, 3):
        plan = shuffled_epochs([2], 1, [Stream(0, 0, round)], 2, 2)
        whole = {"context": Schedule("cosine", warm_up=1, horizon="run")}
        rates = scheduled_rates({"context": RATE}, whole, plan, Clock(2, rounds=3))
        found += rates["context"][:, 0].tolist()
    expected = Schedule("cosine", warm_up=1).rates(RATE, torch.arange(6), 6).tolist()
    assert found == pytest.approx(expected)
    with pytest.raises(ConfigError, match="how many rounds"):
        scheduled_rates({"context": RATE}, whole, plan, Clock(2))


def moved(setting, data, **training):
    setting = replace(setting, training=replace(setting.training, **training), rounds=4)
    method = PromptFL(setting, context_length=4)
    state, _, _ = run_rounds(method, data, NoPrivacy(), 1)
    return state["context"] - method.init()["context"]


def test_training_takes_the_scheduled_steps(setting, data):
    """A round that is all warm-up at 1e-5 equals one at the constant 1e-5."""
    slow = moved(setting, data, epochs=2, learning_rate=1e-5)
    warming = moved(setting, data, epochs=2, learning_rate=0.1, warm_up=2)
    assert torch.equal(slow, warming)
    falling = moved(setting, data, epochs=2, learning_rate=0.1, schedule="cosine")
    constant = moved(setting, data, epochs=2, learning_rate=0.1)
    assert 0 < falling.norm() < constant.norm()


@pytest.mark.parametrize("horizon", ["round", "run"])
def test_a_captured_step_reads_the_step_size_of_the_moment(setting, data, horizon):
    """Buffers hold the rates: two rounds over one static step equal the plain loop."""
    schedule = {"schedule": "cosine", "warm_up": 1, "horizon": horizon, "epochs": 3}
    results = []
    for graphs in (False, True):
        training = replace(setting.training, **schedule, batch_size=8, graphs=graphs)
        own = replace(setting, training=training, rounds=3)
        method = PFedMoAP(own, experts=2, context_length=4, gate_schedule="cosine")
        state, kept, _ = run_rounds(method, data, NoPrivacy(), 2)
        results.append({**method.to_arrays(state), **kept[0]})
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=0, atol=1e-5)


def test_prompt_and_gate_have_schedules_of_their_own(setting, data):
    """A gate that only warms up hardly moves, while the prompt does."""

    def after(**options):
        training = replace(setting.training, learning_rate=0.1)
        method = PFedMoAP(
            replace(setting, training=training), experts=2, context_length=4, **options
        )
        state, kept, _ = run_rounds(method, data, NoPrivacy(), 2)
        gate = (kept[0]["gate.output.weight"] - method.initial_gate["gate.output.weight"]).norm()
        return float(gate), float((state.context - method.init().context).norm())

    free, prompt = after()
    held, same = after(gate_warm_up=1)
    assert held < 0.01 * free
    assert same == pytest.approx(prompt, rel=0.5)


def test_control_variates_want_a_constant_step_size(setting):
    falling = replace(setting, training=replace(setting.training, schedule="cosine"))
    with pytest.raises(ConfigError, match="constant step size"):
        ScaffoldPT(falling, modality="text")
