"""Whole private rounds of real methods: what leaves, what a round may cost, who sits out."""

from dataclasses import replace

import pytest
import torch

from pfedmoap.client.privatizer import NoPrivacy, PlannedTraining
from pfedmoap.engine.round import run_round
from pfedmoap.errors import PrivacyError
from pfedmoap.methods.registry import method_class
from pfedmoap.wire.messages import ClientId
from pfedmoap.wire.transport import InProcess
from privacy.mechanisms.mechanism import SampledGaussian
from privacy.options import DPSGD, Release
from tests.helpers.training_steps import Recorder, run_rounds

PLAN = PlannedTraining(rounds=3, epochs=1, batch_size=3)


class Listening(InProcess):
    """A wire that keeps what went up."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def up(self, update):
        self.heard.append(update)
        return super().up(update)


def listen(method, data, privatizer, rounds=2):
    state, local_states, wire = method.init(), {}, Listening()
    for round in range(1, rounds + 1):
        result = run_round(method, state, sorted(data), round, data, local_states, wire, privatizer)
        state, local_states = result.state, {**local_states, **result.local_states}
    return wire.heard, local_states


def same(first, second, tolerance=0.0):
    return all(
        torch.allclose(a.arrays[name], b.arrays[name], rtol=0, atol=tolerance)
        for a, b in zip(first, second, strict=True)
        for name in a.arrays
    )


def test_every_method_trains_privately_and_uploads_arrays_alone(joint_method, data):
    options = DPSGD(mode="joint", sample_rate=0.5)
    heard, _ = listen(joint_method, data, options.privatizer(joint_method, PLAN, None))
    assert len(heard) == 2 * len(data)
    assert all(update.num_examples is None and update.metrics == {} for update in heard)
    assert all(bool(array.isfinite().all()) for u in heard for array in u.arrays.values())


@pytest.mark.parametrize("name", ["promptfl", "pfedmoap"])
def test_noise_never_repeats_without_a_seed_and_does_with_one(name, setting, data):
    method = method_class(name)(setting)

    def once(seed):
        options = DPSGD(sample_rate=0.5, insecure_seed=seed)
        return listen(method, data, options.privatizer(method, PLAN, None))[0]

    assert not same(once(None), once(None))
    assert same(once(4), once(4))
    assert not same(once(4), once(5))


@pytest.mark.parametrize("name", ["promptfl", "fedprox", "pfedmoap"])
def test_a_run_without_noise_and_clipping_is_the_plain_run_on_the_same_batches(name, setting, data):
    method = method_class(name)(setting)
    options = DPSGD(sample_rate=0.5, mode="joint", counts="public", insecure_seed=3)
    real = options.privatizer(method, PLAN, None)

    class Plain(NoPrivacy):
        """No privacy on the private run's batches."""

        def batches(self, *arguments):
            return real.batches(*arguments)

    silent = replace(real, mechanism=SampledGaussian(0.0, 1e9, real.normaliser), _steps_left={})
    private, _ = listen(method, data, silent)
    plain, _ = listen(method, data, Plain())
    assert same(private, plain, tolerance=1e-5)


def test_clients_train_alike_alone_and_side_by_side(setting, data):
    def heard(clients_per_batch):
        training = replace(setting.training, clients_per_batch=clients_per_batch)
        method = method_class("pfedmoap")(replace(setting, training=training))
        options = DPSGD(sample_rate=0.5, insecure_seed=3)
        return listen(method, data, options.privatizer(method, PLAN, None))[0]

    # A sum at the edge of a cell may round to either side: a thousandth of the noise in a step.
    assert same(heard(1), heard(3), tolerance=1e-4)


def test_a_decoupled_gate_cannot_reach_the_prompt(setting, data):
    """Different gates at the start, the same prompts on the wire, round after round."""
    options = DPSGD(mode="decoupled", sample_rate=0.5, insecure_seed=3)
    heard, gates = [], []
    for rate in (0.01, 0.5):
        method = method_class("pfedmoap")(setting, gate_learning_rate=rate)
        updates, local_states = listen(
            method, data, options.privatizer(method, PLAN, None), rounds=3
        )
        heard.append(updates)
        gates.append(local_states[ClientId(0)]["gate.query.weight"])
    assert same(*heard)
    assert not torch.allclose(*gates)
    initial = method_class("pfedmoap")(setting).initial_gate["gate.query.weight"]
    assert not torch.allclose(gates[0], initial)  # it does learn


def test_a_joint_gate_is_noised(setting, data):
    method = method_class("pfedmoap")(setting)

    def gate(noise):
        options = DPSGD(1e9, mode="joint", sample_rate=0.5, noise_multiplier=noise, insecure_seed=3)
        _, local_states = listen(method, data, options.privatizer(method, PLAN, None))
        return local_states[ClientId(0)]["gate.query.weight"]

    quiet, loud = gate(1e-3), gate(3.0)
    assert float((loud - quiet).std()) > 1e-3


@pytest.mark.parametrize("options", [DPSGD(sample_rate=0.5, counts="public"), Release()])
def test_sample_counts_leave_only_where_declared_public(options, setting, data):
    method = method_class("promptfl")(setting)
    heard, _ = listen(method, data, options.privatizer(method, PLAN, None), rounds=1)
    counts = [update.num_examples for update in heard]
    assert counts == ([5, 3, 6] if options.counts == "public" else [None] * 3)
    assert all(update.metrics == {} for update in heard)


def test_who_spent_the_budget_sits_out_and_it_shows(setting, data):
    method = method_class("pfedmoap")(setting)
    privacy = DPSGD(sample_rate=0.5).privatizer(method, PLAN, None)
    spender = ClientId(1)
    privacy.ledgers.charge(spender, 0)  # an earlier crash has cost it a round
    _, _, results = run_rounds(method, data, privacy, 4)
    assert [spender in result.cohort for result in results] == [True, True, False, False]
    assert spender in results[2].sat_out
    assert spender not in {traffic.client for traffic in results[2].traffic}
    assert results[2].cohort == (ClientId(0), ClientId(4))
    assert results[3].cohort == ()  # everybody's budget is spent
    assert set(results[3].sat_out) == set(data)
    assert all(0 < spent <= 8 for spent in results[2].epsilon.values())


def test_a_step_that_was_not_charged_is_refused(setting, data):
    method = method_class("promptfl")(setting)
    privacy = DPSGD(sample_rate=0.5).privatizer(method, PLAN, None)
    recorder = Recorder()
    run_rounds(method, data, recorder, 1)
    problem, params, batch = recorder.steps[0]
    with pytest.raises(PrivacyError, match="not charged"):
        privacy.gradients(problem, params, batch)
    privacy.authorise(sorted(data), 1, {})
    for _ in range(privacy.ledgers.budget.units):
        privacy.gradients(problem, params, batch)
    with pytest.raises(PrivacyError, match="train what is uploaded once"):
        privacy.gradients(problem, params, batch)


def test_fine_tuned_prompts_stay_home_and_cost_nothing(setting, data):
    from pfedmoap.contract.capabilities import personal_states
    from pfedmoap.contract.tasks import ClientTask

    method = method_class("promptfl_ft")(setting)
    privacy = DPSGD(sample_rate=0.5).privatizer(method, PLAN, None)
    state, local_states, _ = run_rounds(method, data, privacy, 1)
    spent = privacy.ledgers.spent(ClientId(0))
    tasks = [
        ClientTask(download, local_states.get(download.client), data[download.client])
        for download in method.plan(state, sorted(data), 2)
    ]
    assert personal_states(method, tasks, NoPrivacy())[ClientId(0)] is not None
    assert privacy.ledgers.spent(ClientId(0)) == spent
