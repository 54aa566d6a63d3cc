"""The step over fixed buffers against the plain loop: every method, and all that is padded."""

from dataclasses import replace

import pytest
import torch

from pfedmoap.client.device_step import PlainStep
from pfedmoap.client.local_training import Stepping, Training, train_locally
from pfedmoap.client.optimisers import Adam
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.client.static_step import (
    Start,
    StaticStep,
    Stepwise,
    padded_clients,
    padded_examples,
)
from pfedmoap.client.step_cache import StepCache
from pfedmoap.contract.stacking import cohort_of
from pfedmoap.contract.tasks import ClientTask, Setting
from pfedmoap.methods.registry import method_class
from pfedmoap.prompts.tuning import PromptProblem
from pfedmoap.wire.messages import ClientId, Download
from tests.helpers.models import CLASS_NAMES, random_data, rounding, tiny_clip
from tests.helpers.recorded_steps import record_steps
from tests.helpers.small_federation import make_data
from tests.helpers.training_steps import CLASSES, JOINT, run_rounds

FORMS: dict[str, dict] = {
    **JOINT,
    "fedrep": {},
    "pfpt": {},
    "pfpt, trained head": {"head": "trained", "projection": True},
    "pfedmoap, linear gate": {"gate": "linear"},
    "pfedmoap, mean gate": {"gate": "mean"},
    "fedsp, stages": {"distillation_steps": 2},
}


class Decoupled(NoPrivacy):
    """Asks for gates that are trained after their prompts."""

    @property
    def decoupled(self):
        return True

    @property
    def device_step(self):
        return NoPrivacy().device_step


def federation(clip, sizes):
    return {client: make_data(client, size, clip.embed_dim) for client, size in sizes.items()}


def setting_for(clip, graphs, **training):
    options = {"epochs": 2, "batch_size": 4, "learning_rate": 0.02, "graphs": graphs, **training}
    server = make_data(ClientId(99), 4, clip.embed_dim)
    return Setting(clip, CLASSES, Training(**options), seed=11, server_data=server)


def outcome(form, clip, graphs, sizes, privatizer=None, **training):
    """All that server and clients know after two rounds, and how many steps were made."""
    setting = setting_for(clip, graphs, **training)
    method = method_class(form.split(",")[0])(setting, **FORMS[form])
    data = federation(clip, sizes)
    state, kept, _ = run_rounds(method, data, privatizer or NoPrivacy(), 2)
    known = {"server": method.to_arrays(state), **kept}
    arrays = {(who, name): value for who, own in known.items() for name, value in own.items()}
    return arrays, len(setting.steps)


def assert_equal(found, expected, atol=0.0):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=atol, msg=str(name))


EVEN = {ClientId(0): 8, ClientId(1): 8, ClientId(4): 8, ClientId(6): 8}
ODD = {ClientId(0): 5, ClientId(1): 3, ClientId(4): 6}


@pytest.mark.parametrize("form", sorted(FORMS))
def test_every_method_trains_to_the_same_bits_over_buffers(clip, form, caplog, monkeypatch):
    """Four clients with full batches: the same kernels run, on the same shapes.

    They are recorded once and replayed, as a GPU does, for all further steps and rounds.
    """
    expected, none = outcome(form, clip, "auto", EVEN)
    recorded = record_steps(monkeypatch)
    found, some = outcome(form, clip, True, EVEN)
    assert (none, some) == (0, len(recorded.made))
    assert recorded.made
    assert_equal(found, expected)
    assert not caplog.records


@pytest.mark.parametrize("form", ["pfedmoap", "promptfl", "pfpt", "fedotp", "fedsp, stages"])
def test_padding_changes_results_by_rounding_alone(clip, form):
    """Three uneven clients: a standing one beside them, rows of 4 where steps have 1 to 3."""
    options = {"batch_size": 3, "learning_rate": 0.005}
    expected, _ = outcome(form, clip, False, ODD, **options)
    found, _ = outcome(form, clip, True, ODD, **options)
    assert_equal(found, expected, atol=1e-5)


def test_gates_that_are_trained_apart_are_trained_to_the_same_bits(clip):
    expected, _ = outcome("pfedmoap", clip, False, EVEN, Decoupled())
    found, _ = outcome("pfedmoap", clip, True, EVEN, Decoupled())
    assert_equal(found, expected)


def cohort(clip, data, context, round=1):
    tasks = [
        ClientTask(Download(round, client, {"context": context}), None, own)
        for client, own in data.items()
    ]
    return cohort_of(tasks, 0, clip.device)


def start_of(clip, data, contexts):
    """Clients of a prompt method before their first step, moving from prompts (K, L, W)."""
    problem = PromptProblem(clip.prompt_encoder(CLASS_NAMES, contexts.shape[1]), clip.logit_scale)
    chosen = cohort(clip, data, contexts[0])
    plan = NoPrivacy().batches(chosen.sizes, 1, chosen.streams, 2, 4)
    params = {"context": contexts}
    return Start(problem, params, Adam().init(params), plan.to(clip.device), chosen.data)


STEPWISE = Stepwise(PlainStep(), Adam(), {"context": 0.02})


def test_standing_clients_stay_bit_for_bit_and_disturb_nobody(clip, device):
    clip = tiny_clip(device=device)
    start = start_of(clip, random_data([8, 5, 8]), torch.randn(3, 4, 32, device=device))
    step = StaticStep(start, STEPWISE, clients=5)
    step.prepare(None)
    wide = step.run(start)
    everyone = step.buffers
    for name, value in start.params.items():
        assert torch.equal(everyone[name][3:], value[:1].expand(2, -1, -1))
    for name, value in start.state.items():
        assert torch.equal(everyone[f"state.{name}"][3:], value[:1].expand_as(value[:2]))
    exact = StaticStep(start, STEPWISE, clients=3)
    narrow = exact.run(start)
    torch.testing.assert_close(wide.params, narrow.params, rtol=0, atol=rounding(device))
    assert [len(loss) for loss in wide.losses] == [3] * len(start.plan.index)


def test_a_preparing_step_changes_nothing(clip):
    start = start_of(clip, random_data([8, 8]), torch.randn(2, 4, 32))
    fresh, prepared = (StaticStep(start, STEPWISE, clients=2) for _ in range(2))
    prepared.prepare(None)
    assert_same(fresh.run(start), prepared.run(start))
    after = {name: value.clone() for name, value in prepared.buffers.items()}
    prepared.prepare(None)  # now that there are examples with weights, and a state
    for name, value in prepared.buffers.items():
        assert torch.equal(value, after[name]), name


@pytest.mark.parametrize("sizes", [[8, 8], [5, 0, 3]])
def test_losses_are_those_of_each_step_of_the_plain_loop(clip, sizes):
    data, contexts = random_data(sizes), torch.randn(len(sizes), 4, 32)
    start = start_of(clip, data, contexts)

    def trained(graphs):
        training = Training(epochs=2, batch_size=4, learning_rate=0.02, graphs=graphs)
        stepping = Stepping(training, {"context": 0.02}, NoPrivacy(), steps=StepCache())
        chosen = cohort(clip, data, contexts[0])
        return train_locally(start.problem, {"context": contexts}, chosen, stepping)

    torch.testing.assert_close(trained(True).loss, trained(False).loss, rtol=1e-5, atol=1e-6)
    losses = StaticStep(start, STEPWISE, clients=len(sizes) + 1).run(start).losses
    assert len(losses) == len(start.plan.index)
    apart = torch.stack(losses)[:, 0]  # a client that takes every step
    assert len(apart.unique()) == len(losses)


def assert_same(one, two):
    assert torch.equal(one.params["context"], two.params["context"])
    assert all(map(torch.equal, one.losses, two.losses))


def test_results_are_in_memory_of_their_own(clip):
    """A second batch of clients goes through the same buffers, and leaves no trace in the first."""
    first, second = (
        start_of(clip, random_data(sizes), torch.randn(len(sizes), 4, 32))
        for sizes in ([8, 8], [8, 8])
    )
    step = StaticStep(first, STEPWISE, clients=2)
    before = step.run(first)
    kept = {name: value.clone() for name, value in {**before.params, **before.state}.items()}
    step.run(second)
    for name, value in {**before.params, **before.state}.items():
        assert torch.equal(kept[name], value)
    assert_same(step.run(first), before)


def test_a_client_without_examples_stands_still(clip):
    context = torch.randn(4, 32)
    data = random_data([4, 0])
    trained = train_locally(
        start_of(clip, data, context.expand(2, -1, -1)).problem,
        {"context": context.expand(2, -1, -1)},
        cohort(clip, data, context),
        Stepping(
            Training(epochs=1, batch_size=4, graphs=True),
            {"context": 0.02},
            NoPrivacy(),
            steps=StepCache(),
        ),
    )
    assert torch.equal(trained.params["context"][1], context)
    assert not torch.equal(trained.params["context"][0], context)
    assert trained.steps.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("clients", "most", "rows"),
    [(1, 10, 1), (3, 10, 4), (7, 10, 8), (9, 10, 10), (10, 10, 10), (11, 10, 11), (33, 50, 40)],
)
def test_batches_are_padded_to_few_sizes(clients, most, rows):
    assert padded_clients(clients, most) == rows


def test_padding_wastes_little():
    for clients in range(1, 300):
        rows = padded_clients(clients, 1000)
        assert clients <= rows < 1.25 * clients + 2
    assert len({padded_clients(clients, 1000) for clients in range(1, 257)}) == 24
    assert [padded_examples(n) for n in (1, 4, 5, 16)] == [4, 4, 8, 16]


@pytest.mark.gpu
@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_captured_step_gives_what_the_plain_loop_gives(form, caplog):
    clip = tiny_clip(device="cuda")
    expected, _ = outcome(form, clip, False, EVEN)
    found, steps = outcome(form, clip, "auto", EVEN)
    assert steps > 0
    assert not caplog.records  # nothing fell back
    assert_equal(found, expected, atol=rounding(torch.device("cuda")))


def test_a_captured_step_is_replayed_for_later_clients(device, monkeypatch):
    if device.type == "cpu":
        record_steps(monkeypatch)
    clip = tiny_clip(device=device)
    contexts = [torch.randn(2, 4, 32, device=device) for _ in "ab"]
    first, second = (start_of(clip, random_data([8, 8]), each) for each in contexts)
    steps = StepCache()
    for start in (first, replace(second, problem=first.problem)):
        captured = steps.find(start, STEPWISE, most=2)
        plain = StaticStep(start, STEPWISE, clients=2)
        assert_same(captured.run(start), plain.run(start))
    assert len(steps) == 1
