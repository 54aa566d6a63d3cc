"""Defects of pFedMoAP's released code that this implementation must not have, one test each."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.engine.round import run_round
from pfedmoap.errors import ConfigError
from pfedmoap.methods.pfedmoap.attention_gate import AttentionGate
from pfedmoap.methods.pfedmoap.method import PFedMoAP
from pfedmoap.methods.pfedmoap.mixture import GATE
from pfedmoap.methods.promptfl import PromptFL
from pfedmoap.server.aggregation import average
from pfedmoap.wire.messages import Arrays, ClientId, Download, size_bytes
from pfedmoap.wire.transport import InProcess

ME = ClientId(4)
EVERYBODY = [ClientId(0), ClientId(1), ClientId(4), ClientId(7)]


def nearest(prompts: Mapping[ClientId, torch.Tensor], client: ClientId, k: int) -> list[ClientId]:
    """Sort all others by distance, slowly."""
    gap = {o: float((p - prompts[client]).norm()) for o, p in prompts.items() if o != client}
    return sorted(gap, key=lambda other: (gap[other], other))[:k]


def uploads(results) -> dict[ClientId, torch.Tensor]:
    return {result.update.client: result.update.arrays["context"] for result in results}


def served(download: Download) -> list[int]:
    return download.arrays["expert_clients"].tolist()


def same(first: Arrays, second: Arrays) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_experts_are_the_true_nearest_by_client_id_and_never_the_client_itself(small, setting, k):
    world = small(PFedMoAP(setting, experts=k))
    state, _, results = world.rounds(1)
    prompts = uploads(results)
    for download in world.method.plan(state, EVERYBODY, 2):
        assert served(download) == nearest(prompts, download.client, k)
        for other, expert in zip(served(download), download.arrays["experts"], strict=True):
            assert torch.equal(expert, prompts[ClientId(other)])


def test_random_experts_differ_by_round_and_client_but_not_by_call(small, setting):
    world = small(PFedMoAP(setting, experts=1, selection="random"))
    state, _, _ = world.rounds(1)
    drawn = [[served(d) for d in world.method.plan(state, EVERYBODY, r)] for r in range(2, 12)]
    again = [[served(d) for d in world.method.plan(state, EVERYBODY, r)] for r in range(2, 12)]
    assert drawn == again
    assert len({tuple(map(tuple, row)) for row in drawn}) > 1
    for column, client in enumerate(EVERYBODY):
        seen = {row[column][0] for row in drawn}
        assert client not in seen
        assert len(seen) > 1


def test_pool_is_frozen_at_the_start_of_the_round(small, setting, data):
    """Later clients of a round must not be served prompts of the same round."""
    method = PFedMoAP(setting, experts=3)
    world = small(method)
    state, local_states, results = world.rounds(1)
    old = uploads(results)
    result = run_round(method, state, EVERYBODY, 2, data, local_states, InProcess(), NoPrivacy())
    for client in EVERYBODY:
        for other, expert in zip(
            result.served[client], result.local_states[client]["experts"], strict=True
        ):
            assert torch.equal(expert, old[ClientId(other)])
    new = {client: result.state.pool[client] for client in EVERYBODY}
    assert all(not torch.equal(new[client], old[client]) for client in EVERYBODY)


def test_first_participation_is_plain_prompt_tuning(small, setting):
    """Section 1.6: round 1 equals CoOp from the global prompt, bit for bit."""
    _, local_states, results = small(PFedMoAP(setting)).rounds(1)
    _, _, plain = small(PromptFL(setting)).rounds(1)
    for mixture, truth in zip(results, plain, strict=True):
        assert torch.equal(mixture.update.arrays["context"], truth.update.arrays["context"])
        assert set(local_states[mixture.update.client]) == {"context"}


def test_mixture_is_active_from_the_second_participation(small, setting, data):
    world = small(PFedMoAP(setting))
    state, local_states, _ = world.rounds(2)
    _, _, plain = small(PromptFL(setting)).rounds(2)
    for result in plain:
        client = result.update.client
        assert not torch.allclose(
            local_states[client]["context"], result.update.arrays["context"], atol=1e-4
        )
    for download in world.method.plan(state, EVERYBODY, 3):
        prediction = world.method.predict(
            download, local_states[download.client], data[download.client].view()
        )
        assert prediction.attention is not None
        assert len(prediction.experts) == 3


def test_gate_starts_at_the_common_initial_one_and_not_at_a_neighbours(small, setting):
    """In the released code, a gate starts from that of the client trained before it."""
    method = PFedMoAP(setting, gate_learning_rate=1e-12)
    _, local_states, _ = small(method).rounds(2)
    for local in local_states.values():
        for name, value in method.initial_gate.items():
            assert torch.allclose(local[name], value, atol=1e-6)


def test_gates_are_personal_and_persist(small, setting):
    world = small(PFedMoAP(setting, gate_learning_rate=1.0))
    state, local_states, _ = world.rounds(2)
    name = GATE + "query.weight"
    assert not torch.equal(local_states[ClientId(0)][name], local_states[ME][name])
    _, later, _ = world.round(state, local_states, [ClientId(0)], 3)
    assert torch.equal(later[ME][name], local_states[ME][name])
    assert not torch.equal(later[ClientId(0)][name], local_states[ClientId(0)][name])
    fresh = {
        **local_states,
        ME: {n: v for n, v in local_states[ME].items() if not n.startswith(GATE)},
    }
    _, restarted, _ = world.round(state, fresh, [ME], 3)
    _, continued, _ = world.round(state, local_states, [ME], 3)
    assert not torch.allclose(restarted[ME][name], continued[ME][name], atol=1e-5)


def test_isolated_clients_get_the_result_of_the_cohort(small, setting):
    """A client's result depends on no gate, momentum, schedule or expert of another client."""
    world = small(PFedMoAP(setting))
    state, local_states, _ = world.rounds(2)
    tasks = world.tasks(state, EVERYBODY, 3, local_states)
    together = world.method.train(tasks, NoPrivacy())
    for task, result in zip(tasks, together, strict=True):
        (alone,) = replace(world.method).train([task], NoPrivacy())
        assert torch.allclose(
            alone.update.arrays["context"], result.update.arrays["context"], atol=1e-5
        )


def test_momentum_does_not_cross_rounds_or_clients(small, setting):
    """Training twice from the same task gives the same result: no optimiser state is shared."""
    world = small(PFedMoAP(setting))
    state, local_states, _ = world.rounds(1)
    tasks = world.tasks(state, EVERYBODY, 2, local_states)
    first, second = (world.method.train(tasks, NoPrivacy()) for _ in range(2))
    for one, two in zip(first, second, strict=True):
        assert same(one.update.arrays, two.update.arrays)


def test_a_newcomer_beside_old_clients_sees_none_of_their_experts(small, setting):
    """The released code leaves the experts of earlier clients on its one shared model."""
    world, newcomer = small(PFedMoAP(setting)), ClientId(7)
    state, local_states, _ = world.rounds(2, EVERYBODY[:3])
    (plain,) = PromptFL(setting).train(world.tasks(state, [newcomer], 3, {}), NoPrivacy())
    state, local_states, results = world.round(state, local_states, EVERYBODY, 3)
    assert "experts" not in local_states[newcomer]
    truth = plain.update.arrays["context"]
    assert torch.allclose(uploads(results)[newcomer], truth, atol=1e-6)
    assert state.pool.clients == tuple(EVERYBODY)
    state, local_states, _ = world.round(state, local_states, [newcomer], 4)
    assert len(local_states[newcomer]["experts"]) == 3


def test_a_client_is_evaluated_with_the_experts_it_holds(small, setting, data):
    world = small(PFedMoAP(setting, experts=1))
    state, local_states, _ = world.rounds(2)
    held = local_states[ME]["experts"].clone()
    later, others, _ = world.round(state, local_states, EVERYBODY[:2], 3)
    assert torch.equal(others[ME]["experts"], held)
    view = data[ME].view()
    (before,) = world.method.plan(state, [ME], 3)
    (after,) = world.method.plan(later, [ME], 4)
    assert torch.equal(
        world.method.predict(before, local_states[ME], view).logits,
        world.method.predict(after, others[ME], view).logits,
    )


@pytest.mark.parametrize("gate", ["attention", "mean"])
def test_order_of_experts_leaves_logits_unchanged(small, setting, data, gate):
    world = small(PFedMoAP(setting, gate=gate))
    state, local_states, _ = world.rounds(2)
    (download,) = world.method.plan(state, [ME], 3)
    local = local_states[ME]
    turned = {**local} | {name: local[name].flip(0) for name in ("experts", "expert_clients")}
    view = data[ME].view()
    straight = world.method.predict(download, local, view)
    flipped = world.method.predict(download, turned, view)
    assert torch.allclose(straight.logits, flipped.logits, atol=1e-4)
    assert flipped.experts == straight.experts[::-1]
    assert straight.attention is not None
    assert flipped.attention is not None
    assert torch.allclose(
        straight.attention[..., 1:], flipped.attention[..., 1:].flip(-1), atol=1e-5
    )


def test_no_experts_leaves_the_gate_with_the_own_prompt(small, setting, data):
    world = small(PFedMoAP(setting, experts=0))
    state, local_states, _ = world.rounds(2)
    (download,) = world.method.plan(state, [ME], 3)
    assert download.arrays["experts"].shape == (0, 16, 32)
    prediction = world.method.predict(download, local_states[ME], data[ME].view())
    assert prediction.experts == ()
    assert prediction.attention is not None
    assert torch.allclose(prediction.attention, torch.ones(8, 3, 1))
    assert GATE + "query.weight" in local_states[ME]


def test_lone_pool_entry_is_served_nobody(small, setting):
    world = small(PFedMoAP(setting))
    state, _, _ = world.rounds(2, [ME])
    (download,) = world.method.plan(state, [ME], 3)
    assert served(download) == []


def test_number_of_experts_may_grow_as_the_pool_does(small, setting):
    world = small(PFedMoAP(setting, experts=3))
    state, local_states, counts = world.method.init(), {}, []
    for round, cohort in enumerate((EVERYBODY[:2], EVERYBODY[:3], EVERYBODY, EVERYBODY), 1):
        counts.append(
            [len(d.arrays.get("experts", ())) for d in world.method.plan(state, cohort, round)]
        )
        state, local_states, _ = world.round(state, local_states, cohort, round)
    assert counts == [[0, 0], [1, 1, 0], [2, 2, 2, 0], [3, 3, 3, 3]]


def test_partial_participation_with_a_client_that_never_takes_part(small, setting, data):
    """The released code crashes if a client has not taken part yet."""
    world = small(PFedMoAP(setting))
    state, local_states, _ = world.rounds(3, EVERYBODY[:2])
    for download in world.method.plan(state, EVERYBODY, 4):
        local = local_states.get(download.client)
        prediction = world.method.predict(download, local, data[download.client].view())
        assert prediction.logits.isfinite().all()
        assert (prediction.attention is None) == (download.client not in EVERYBODY[:2])


@pytest.mark.parametrize(("wire", "scalar_bytes"), [("float32", 4), ("float16", 2)])
def test_measured_bytes_equal_the_formula(small, setting, data, wire, scalar_bytes):
    """Up l d b; down (1 + k) l d b, and 8 bytes for each expert's id; the first time l d b."""
    method = PFedMoAP(setting, experts=2)
    state, local_states, prompt = method.init(), {}, 16 * 32 * scalar_bytes
    for round in (1, 2):
        k = 0 if round == 1 else 2
        result = run_round(
            method, state, EVERYBODY, round, data, local_states, InProcess(wire), NoPrivacy()
        )
        state, local_states = result.state, dict(result.local_states)
        for traffic in result.traffic:
            assert sum(traffic.up_bytes.values()) == prompt
            assert sum(traffic.down_bytes.values()) == (1 + k) * prompt + 8 * k


def test_paper_sizes_give_the_papers_traffic_and_gate():
    """A prompt of 16 x 512 is 16,384 bytes in fp16; the gate has 66,048 parameters."""
    assert size_bytes({"context": torch.zeros(16, 512, dtype=torch.float16)}) == 16_384
    assert sum(value.numel() for value in AttentionGate().state_dict().values()) == 66_048


def test_own_start_goes_on_from_the_clients_last_prompt(small, setting):
    slow = replace(setting, training=replace(setting.training, learning_rate=1e-9))
    world = small(PFedMoAP(setting, start="own"))
    state, local_states, _ = world.rounds(1)
    still = replace(world, method=PFedMoAP(slow, start="own", gate_learning_rate=1e-9))
    _, after, _ = still.round(state, local_states, EVERYBODY, 2)
    assert torch.allclose(after[ME]["context"], local_states[ME]["context"], atol=1e-5)
    assert not torch.allclose(state.context, local_states[ME]["context"], atol=1e-3)


@pytest.mark.parametrize("gate", ["attention", "linear", "mean"])
@pytest.mark.parametrize("experts", [0, 2])
def test_every_gate_trains_predicts_and_resumes(small, setting, data, gate, experts):
    world = small(PFedMoAP(setting, gate=gate, experts=experts))
    state, local_states, _ = world.rounds(3)
    again = world.method.from_arrays(world.method.to_arrays(state))
    for download in world.method.plan(again, EVERYBODY, 4):
        view = data[download.client].view()
        prediction = world.method.predict(download, local_states[download.client], view)
        assert prediction.logits.isfinite().all()
        assert prediction.attention is not None
        assert torch.allclose(prediction.attention.sum(-1), torch.ones(len(view["image"]), 3))


def test_mean_gate_is_the_mean_of_the_experts_logits(small, setting, data):
    method = PFedMoAP(setting, gate="mean", experts=3, own_weight=0.25)
    state, local_states, _ = small(method).rounds(2)
    local, image = local_states[ME], data[ME].view()["image"]
    (download,) = method.plan(state, [ME], 3)
    text = method.encoder(torch.cat([local["context"][None], local["experts"]]))
    each = setting.backbone.logit_scale * torch.einsum("bd,ecd->ebc", image, text)
    truth = each.mean(0) + 0.25 * each[0]
    assert torch.allclose(
        method.predict(download, local, {"image": image}).logits, truth, atol=1e-4
    )
    assert set(local) == {"context", "experts", "expert_clients"}  # nothing to learn


def test_averaged_gate_is_the_weighted_mean_of_those_that_trained_one(small, setting, data):
    method = PFedMoAP(setting, gate_sharing="averaged")
    world = small(method)
    state, local_states, _ = world.rounds(1, EVERYBODY[:2])
    assert same(state.gate, method.initial_gate)  # nobody had experts yet
    state, local_states, results = world.round(state, local_states, EVERYBODY, 2)
    trained = [result.update for result in results if result.update.client in EVERYBODY[:2]]
    for name, value in state.gate.items():
        assert torch.equal(value, average(trained, name))
        assert not torch.equal(value, method.initial_gate[name])
    assert set(method.uploads) == {"context", *method.initial_gate}
    assert not any(name.startswith(GATE) for local in local_states.values() for name in local)
    for download in method.plan(state, EVERYBODY, 3):
        local = local_states[download.client]
        method.predict(download, local, data[download.client].view())
        for name, value in state.gate.items():
            assert torch.equal(download.arrays[name], value)


def test_averaged_gates_resume_and_pass_admission(small, setting, data):
    method = PFedMoAP(setting, gate_sharing="averaged")
    state, local_states = method.init(), {}
    for round in (1, 2):
        result = run_round(
            method, state, EVERYBODY, round, data, local_states, InProcess(), NoPrivacy()
        )
        assert not result.rejected
        state, local_states = result.state, dict(result.local_states)
    again = method.from_arrays(method.to_arrays(state))
    assert same(method.to_arrays(again), method.to_arrays(state))


def test_nonsense_options_are_refused(setting):
    with pytest.raises(ConfigError, match="experts"):
        PFedMoAP(setting, experts=-1)
    with pytest.raises(ConfigError, match="gate_width 256"):
        PFedMoAP(setting, gate_width=256)
    assert PFedMoAP(setting, gate="linear", gate_width=256)


def test_newcomers_may_classify_with_the_experts_nearest_to_the_global_prompt(small, setting):
    method = PFedMoAP(setting, experts=2, newcomers="experts")
    world, newcomer = small(method), ClientId(7)
    state, _, _ = world.round(method.init(), {}, [ClientId(0), ClientId(1), ClientId(4)], 1)
    (download,) = method.plan(state, [newcomer], 2)
    guests = download.arrays["guest_experts"]
    nearest = state.pool.near(state.context, 2)
    assert torch.equal(guests, torch.stack([expert.context for expert in nearest]))
    features = world.data[newcomer].view()
    alone = PFedMoAP(setting, experts=2)
    votes = [
        alone.predict(Download(2, newcomer, {"context": prompt}), None, features).logits
        for prompt in (state.context, *guests)
    ]
    answer = method.predict(download, None, features)
    torch.testing.assert_close(answer.logits, torch.stack(votes).mean(0))
    assert "experts" not in download.arrays, "its first training round stays plain CoOp"
