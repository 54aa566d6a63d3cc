"""What of a problem belongs to clients: found, replaced, and told apart from what does not."""

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from pfedmoap.client.problem import CONSTANT, OF_CLIENTS, Problem
from pfedmoap.client.problem_rows import NotStaticError, client_rows, identity, with_client_rows
from pfedmoap.methods.registry import Methods, method_class
from tests.helpers.training_steps import JOINT, Recorder, run_rounds


@dataclass(frozen=True)
class Named(Problem):
    rate: float
    anchor: Tensor | None = field(default=None, metadata=OF_CLIENTS)
    parts: dict[str, Tensor] = field(default_factory=dict, metadata=OF_CLIENTS)
    written: Tensor | None = field(default=None, metadata=CONSTANT)
    other: object = None


def test_rows_are_found_and_replaced():
    problem = Named(1.0, torch.ones(2, 3), {"a": torch.ones(2)}, torch.ones(5))
    assert {n: tuple(v.shape) for n, v in client_rows(problem).items()} == {
        "anchor": (2, 3),
        "parts.a": (2,),
    }
    moved = with_client_rows(problem, {"anchor": torch.zeros(4, 3), "parts.a": torch.zeros(4)})
    assert moved.anchor.shape == (4, 3)
    assert moved.parts["a"].shape == (4,)
    assert moved.written is problem.written
    assert identity(moved) == identity(problem)


def test_identity_tells_everything_else_apart():
    problem = Named(1.0, written=torch.ones(5))
    same = replace(problem, anchor=torch.ones(2))
    assert identity(same) == identity(problem)
    for change in ({"rate": 2.0}, {"written": torch.ones(5)}, {"other": object()}, {"rate": 1}):
        assert identity(replace(problem, **change)) != identity(problem)


def test_tensors_of_unknown_owners_are_refused():
    rows = torch.ones(2)
    for unknown in (rows, {"a": rows}, lambda: rows):
        with pytest.raises(NotStaticError, match="'other'"):
            identity(Named(1.0, other=unknown))


def test_a_problem_that_is_no_dataclass_is_refused():
    class Bare(Problem):
        pass

    with pytest.raises(NotStaticError, match="no dataclass"):
        identity(Bare())


@pytest.mark.parametrize("name", sorted(Methods().keys() - {"zero_shot", "fed_bbpt"}))
def test_rows_of_every_method_have_the_client_axis_and_keep_their_identity(name, setting, data):
    """Problems of one method differ from round to round in their rows alone."""
    method = method_class(name)(setting, **JOINT.get(name, {}))
    recorder = Recorder()
    run_rounds(method, data, recorder, 3)
    kinds: dict = {}
    for problem, params, batch in recorder.steps:
        clients = len(batch.labels)
        rows = {**client_rows(problem), **params}
        assert {len(value) for value in rows.values()} == {clients}
        kinds.setdefault((type(problem), tuple(params)), set()).add(identity(problem))
    assert [len(each) for each in kinds.values()] == [1] * len(kinds)
