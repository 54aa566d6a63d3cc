"""Clients side by side, of every form at once, and what is encoded for them."""

from dataclasses import replace

import pytest
import torch

from pfedmoap.contract.predicting import PredictionTask
from pfedmoap.methods.registry import method_class
from pfedmoap.wire.messages import ClientId

NEW = ClientId(7)


def trained(small, setting, **options):
    """Clients with experts, one whose first round was its last, and one that never took part."""
    world = small(method_class("pfedmoap")(setting, experts=2, gate_width=32, **options))
    early, late = world.clients[:-1], world.clients[1:-1]
    state, local_states, _ = world.round(world.method.init(), {}, early, 1)
    state, local_states, _ = world.round(state, local_states, late, 2)
    return world, state, local_states


def tasks(world, state, local_states):
    return [
        PredictionTask(each, local_states.get(each.client), world.data[each.client].view())
        for each in world.method.plan(state, world.clients, 3)
    ]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gate": "linear", "own_weight": 0.0},
        {"gate": "mean"},
        {"gate_sharing": "averaged"},
        {"newcomers": "experts"},
        {"attention_scale": 10.0, "pooling": "strided", "start": "own"},
    ],
)
def test_all_forms_at_once_are_answered_as_alone(small, setting, options):
    world, state, local_states = trained(small, setting, **options)
    given = tasks(world, state, local_states)
    given += given[::-1]
    held = {name for local in local_states.values() for name in local}
    assert NEW not in local_states
    assert "experts" in held

    answers = list(world.method.predict_together(given))

    assert len(answers) == len(given)
    forms = set()
    for task, answer in zip(given, answers, strict=True):
        alone = world.method.predict(task.download, task.local, task.features)
        torch.testing.assert_close(answer.logits, alone.logits, atol=2e-4, rtol=0)
        assert answer.experts == alone.experts
        assert (answer.attention is None) == (alone.attention is None)
        if alone.attention is not None:
            torch.testing.assert_close(answer.attention, alone.attention, atol=1e-5, rtol=0)
        forms.add((task.local is None, answer.attention is None))
    assert forms == {(True, True), (False, True), (False, False)}


def test_a_client_whose_model_is_broken_breaks_no_other(small, setting):
    world, state, local_states = trained(small, setting)
    given = tasks(world, state, local_states)
    whole = list(world.method.predict_together(given))
    row = next(i for i, task in enumerate(given) if "experts" in (task.local or {}))
    local = dict(given[row].local)
    local["context"] = local["context"] * float("nan")
    given[row] = replace(given[row], local=local)
    for i, answer in enumerate(world.method.predict_together(given)):
        if i == row:
            assert answer.logits.isnan().any()
        else:
            torch.testing.assert_close(answer.logits, whole[i].logits, atol=1e-4, rtol=0)


def test_experts_of_the_round_are_not_encoded_again(small, setting):
    """Those that training has just encoded; another object of the method encodes all anew."""
    world, state, local_states = trained(small, setting)
    given = tasks(world, state, local_states)
    own = {content.numpy().tobytes() for content in prompts(given, "context")}
    experts = {content.numpy().tobytes() for content in prompts(given, "experts")}

    def encoded(method):
        calls = []
        encoder = method.encoder

        def counting(contexts):
            calls.extend(contexts)
            return encoder(contexts)

        method.__dict__["encoder"] = counting
        answers = [each.logits for each in method.predict_together(given)]
        method.__dict__["encoder"] = encoder
        return {context.numpy().tobytes() for context in calls}, len(calls), answers

    known, count, answers = encoded(world.method)
    assert count == len(known)  # each once
    assert known == own - experts
    world.method.release_features()
    assert encoded(world.method)[0] >= own | experts
    everything, count, anew = encoded(replace(world.method))
    assert count == len(everything)
    assert everything >= own | experts
    for one, other in zip(answers, anew, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def prompts(given, name):
    """What clients hold, one context after the other."""
    for task in given:
        local = task.local or task.download.arrays
        if name in local:
            yield from local[name].view(-1, *local["context"].shape)
