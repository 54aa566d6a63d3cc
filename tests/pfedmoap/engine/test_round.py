"""One round: who takes part, what is refused, and that nothing else is disturbed by it."""

from dataclasses import replace

import pytest
import torch

from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.config.server import ServerOptions
from pfedmoap.contract.tasks import ArraySpec, Setting
from pfedmoap.engine.round import run_round
from pfedmoap.errors import ConfigError, UpdateRejectedError
from pfedmoap.methods.registry import method_class
from pfedmoap.server.admission import admit
from pfedmoap.server.bounding import Bounded, Excess
from pfedmoap.server.cohort import draw_cohort
from pfedmoap.wire.messages import ClientId, Update
from pfedmoap.wire.transport import InProcess
from tests.helpers.models import CLASS_NAMES, random_data

CLIENTS = [ClientId(i) for i in range(20)]


def method_of(clip, **options):
    setting = Setting(clip, CLASS_NAMES, Training(epochs=1, batch_size=4, learning_rate=0.05))
    return method_class("pfedmoap")(setting, **{"experts": 2, "context_length": 4} | options)


class Tampering(InProcess):
    """A wire on which one client's update arrives changed."""

    def __init__(self, client, change):
        super().__init__()
        self.client, self.change = client, change

    def up(self, update):
        arrived = super().up(update)
        return self.change(arrived) if update.client == self.client else arrived


def swap(**arrays):
    return lambda update: replace(update, arrays={**update.arrays, **arrays})


TAMPERED = {
    "nan": (lambda u: replace(u, arrays={"context": u.arrays["context"] * float("nan")}), "finite"),
    "shape": (swap(context=torch.zeros(5, 32)), r"shape \(5, 32\), expected \(4, 32\)"),
    "dtype": (swap(context=torch.zeros(4, 32, dtype=torch.float64)), "dtype torch.float64"),
    "oversized": (swap(context=torch.zeros(4000, 32)), "shape"),
    "huge norm": (swap(context=torch.full((4, 32), 1e9)), "norm"),
    "smuggled gate": (swap(**{"gate.query.bias": torch.zeros(128)}), "holds"),
    "nothing": (lambda u: replace(u, arrays={}), r"holds \[\]"),
    "other client": (lambda u: replace(u, client=ClientId(2)), "expected client 1"),
    "stale round": (lambda u: replace(u, round=0), "round 0"),
    "no examples": (lambda u: replace(u, num_examples=0), "claims 0 examples"),
    "negative": (lambda u: replace(u, num_examples=-5), "claims -5 examples"),
    "too many": (lambda u: replace(u, num_examples=10**400), "examples, expected at most 1e"),
    "unprintable": (lambda u: replace(u, num_examples=10**5000), "thousands of digits"),
    "bool": (lambda u: replace(u, num_examples=True), "True examples, which is no whole number"),
    "fraction": (lambda u: replace(u, num_examples=2.5), "no whole number"),
    "nan count": (lambda u: replace(u, num_examples=float("nan")), "no whole number"),
    "text": (lambda u: replace(u, num_examples="9"), "no whole number"),
    "endless round": (lambda u: replace(u, round=10**5000), "thousands of digits"),
    "endless name": (lambda u: replace(u, arrays={"x" * 10**6: torch.zeros(1)}), "characters"),
    "mixed names": (lambda u: replace(u, arrays={1: torch.zeros(1), "a": torch.zeros(1)}), "holds"),
    "list": (swap(context=[[0.0] * 32] * 4), "no dense tensor"),
    "sparse": (swap(context=torch.zeros(4, 32).to_sparse()), "no dense tensor"),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_a_bad_update_is_refused_and_the_round_goes_on_without_it(clip, kind):
    change, message = TAMPERED[kind]
    method, data = method_of(clip), random_data([6, 6, 6])
    state = method.init()
    result = run_round(
        method, state, list(data), 1, data, {}, Tampering(ClientId(1), change), NoPrivacy()
    )
    assert list(result.rejected) == [1]
    import re

    assert re.search(message, result.rejected[ClientId(1)])
    assert result.state.pool.clients == (0, 2)
    assert set(result.local_states) == {0, 2}, "what was refused is not kept either"
    honest = {c: own for c, own in data.items() if c != 1}
    expected = run_round(method, state, list(honest), 1, honest, {}, InProcess(), NoPrivacy())
    torch.testing.assert_close(result.state.context, expected.state.context, rtol=0, atol=1e-6)


class Billed:
    """A method whose clients keep a bill beside what they train."""

    def __init__(self, method):
        self.method = method

    def __getattr__(self, name):
        return getattr(self.method, name)

    def train(self, tasks, privatizer):
        bill = {"bill": torch.tensor(7)}
        results = self.method.train(tasks, privatizer)
        return [replace(r, local={**r.local, **bill}, lasting=bill) for r in results]


def test_a_bill_outlives_the_refusal_and_nothing_else_does(clip):
    method, data = Billed(method_of(clip)), random_data([6, 6, 6])
    old = {"context": torch.ones(4, 32), "bill": torch.tensor(3)}
    before = {ClientId(1): old}
    wire = Tampering(ClientId(1), TAMPERED["nan"][0])
    state = method.init()
    kept = run_round(method, state, list(data), 1, data, before, wire, NoPrivacy()).local_states
    assert kept[ClientId(1)].keys() == old.keys()
    assert torch.equal(kept[ClientId(1)]["context"], old["context"])
    assert [int(kept[client]["bill"]) for client in data] == [7, 7, 7]
    assert int(old["bill"]) == 3, "what went in is not written to"
    first = run_round(method, state, list(data), 1, data, {}, wire, NoPrivacy()).local_states
    assert first[ClientId(1)].keys() == {"bill"}
    assert {"context", "bill"} <= first[ClientId(0)].keys()


def test_a_round_in_which_every_update_is_refused_changes_nothing(clip):
    method, data = method_of(clip), random_data([6])
    state = method.init()
    wire = Tampering(ClientId(0), TAMPERED["nan"][0])
    result = run_round(method, state, list(data), 1, data, {}, wire, NoPrivacy())
    assert torch.equal(result.state.context, state.context)
    assert len(result.state.pool) == 0


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 10**400, "low", None, [1], True])
def test_a_metric_that_is_no_finite_number_is_not_logged(clip, loss):
    """Strict JSON has no NaN: one would make the run's log unreadable."""
    method, data = method_of(clip), random_data([6, 6, 6])
    wire = Tampering(ClientId(1), lambda u: replace(u, metrics={"train_loss": loss}))
    result = run_round(method, method.init(), list(data), 1, data, {}, wire, NoPrivacy())
    assert not result.rejected
    assert set(result.train_loss) == {0, 2}


def hundredfold(update):
    arrays = {name: 100 * value for name, value in update.arrays.items()}
    return replace(update, arrays=arrays, num_examples=10**9)


def test_what_is_far_and_heavy_is_bounded_and_reported(clip):
    method, data = method_of(clip), random_data([6] * 8)
    state = method.init()
    honest = run_round(method, state, list(data), 1, data, {}, InProcess(), NoPrivacy())
    assert honest.bounded == Bounded()
    wire = Tampering(ClientId(3), hundredfold)
    result = run_round(method, state, list(data), 1, data, {}, wire, NoPrivacy())
    assert list(result.bounded.shortened) == [3]
    assert result.bounded.capped == {ClientId(3): Excess(10**9, 18)}
    moved = float((honest.state.context - state.context).norm())
    assert float((result.state.context - honest.state.context).norm()) < 10 * moved
    entry = result.state.pool[ClientId(3)] - state.context
    limit = result.bounded.shortened[ClientId(3)]["context"].limit
    assert float(entry.norm()) == pytest.approx(limit, rel=1e-4)


def test_without_bounds_the_same_upload_is_the_new_state(clip):
    method, data = method_of(clip), random_data([6] * 8)
    options = ServerOptions(max_change=None, max_examples=10**6)
    method = replace(method, setting=replace(method.setting, server=options))
    wire = Tampering(ClientId(3), hundredfold)
    result = run_round(method, method.init(), list(data), 1, data, {}, wire, NoPrivacy())
    far = result.state.pool[ClientId(3)]
    assert float((result.state.context - far).norm() / far.norm()) < 0.01


def test_clients_that_start_from_their_own_prompt_are_measured_from_there(clip):
    """Far from the global prompt, and still honest."""
    method, data = method_of(clip, start="own"), random_data([6] * 5)
    state = method.init()
    first = run_round(method, state, list(data), 1, data, {}, InProcess(), NoPrivacy())
    away = first.state.pool[ClientId(2)] + 5.0
    state = replace(first.state, pool=first.state.pool.put({ClientId(2): away}))
    kept = {**first.local_states, ClientId(2): {"context": away}}
    second = run_round(method, state, list(data), 2, data, kept, InProcess(), NoPrivacy())
    assert not second.bounded.shortened


def test_bytes_are_those_of_the_formula(clip):
    method, data = method_of(clip), random_data([6, 6, 6, 6])
    state, local_states = method.init(), {}
    prompt_bytes = 4 * 32 * 4  # L x W x 4 bytes
    for round in (1, 2):
        result = run_round(
            method, state, list(data), round, data, local_states, InProcess(), NoPrivacy()
        )
        state, local_states = result.state, {**local_states, **result.local_states}
        for traffic in result.traffic:
            assert traffic.up_bytes == {"context": prompt_bytes}
            experts = {"experts": 2 * prompt_bytes, "expert_clients": 2 * 8} if round == 2 else {}
            assert traffic.down_bytes == {"context": prompt_bytes, **experts}


def test_half_precision_on_the_wire_halves_the_bytes(clip):
    method, data = method_of(clip), random_data([6])
    wire = InProcess("float16")
    result = run_round(method, method.init(), list(data), 1, data, {}, wire, NoPrivacy())
    assert result.traffic[0].up_bytes == {"context": 4 * 32 * 2}
    assert result.state.context.dtype == torch.float32


def test_transport_never_shares_live_tensors():
    tensor = torch.zeros(3)
    arrived = InProcess().up(Update(1, ClientId(0), {"context": tensor}, 1))
    tensor += 1
    assert arrived.arrays["context"].tolist() == [0, 0, 0]


def test_cohorts_are_seeded_by_round_and_have_the_asked_size():
    first = draw_cohort(CLIENTS, 0.25, 1, seed=0)
    assert len(first) == 5
    assert first == draw_cohort(CLIENTS, 0.25, 1, seed=0)
    assert first == tuple(sorted(first))
    assert len({draw_cohort(CLIENTS, 0.25, r, seed=0) for r in range(1, 9)}) > 6
    assert first != draw_cohort(CLIENTS, 0.25, 1, seed=1)
    assert draw_cohort(CLIENTS, 1.0, 3, seed=0) == tuple(CLIENTS)
    assert len(draw_cohort(CLIENTS, 0.001, 1, seed=0)) == 1
    with pytest.raises(ConfigError, match="participation"):
        draw_cohort(CLIENTS, 0.0, 1, seed=0)


def test_admission_accepts_withheld_sample_counts():
    update = Update(1, ClientId(0), {"context": torch.zeros(2)}, None)
    assert admit(update, {"context": ArraySpec((2,))}, ClientId(0), 1) is update
    with pytest.raises(UpdateRejectedError):
        admit(update, {"context": ArraySpec((2,))}, ClientId(0), 2)


def test_who_was_served_is_what_the_method_says_and_not_on_the_wire(clip):
    class Renamed(method_class("pfedmoap")):
        def plan(self, state, cohort, round):
            planned = super().plan(state, cohort, round)
            return [replace(one, served=(ClientId(41),)) for one in planned]

    method, data = method_of(clip), random_data([6, 6, 6])
    first = run_round(method, method.init(), list(data), 1, data, {}, InProcess(), NoPrivacy())
    assert first.served == {}
    method = Renamed(method.setting, experts=2, context_length=4)
    result = run_round(method, first.state, list(data), 2, data, {}, InProcess(), NoPrivacy())
    assert result.served == dict.fromkeys(data, (ClientId(41),))
    (sent, *_) = method.plan(first.state, list(data), 2)
    assert InProcess().down(sent).served is None
