"""Uploads whose number of rows follows what the server had sent."""

import numpy as np
import pytest
import torch

from pfedmoap.contract.tasks import ArraySpec
from pfedmoap.errors import UpdateRejectedError
from pfedmoap.server.admission import admit
from pfedmoap.wire.messages import ClientId, Update

SENT = {"prompts": torch.zeros(5, 2)}


def accepted(spec: ArraySpec, shape: tuple[int, ...], sent=None) -> bool:
    update = Update(1, ClientId(0), {"prompts": torch.zeros(shape)}, None)
    try:
        admit(update, {"prompts": spec}, ClientId(0), 1, sent)
    except UpdateRejectedError:
        return False
    return True


def test_rows_must_be_as_many_as_were_sent():
    spec = ArraySpec((9, 2), rows_of="prompts")
    assert [rows for rows in range(11) if accepted(spec, (rows, 2), SENT)] == [5]
    assert [rows for rows in range(11) if accepted(spec, (rows, 2))] == list(range(1, 10))


def test_fewer_rows_are_admitted_where_the_method_says_so():
    spec = ArraySpec((9, 2), rows_of="prompts", fewer_rows=True)
    assert [rows for rows in range(11) if accepted(spec, (rows, 2), SENT)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("count", [None, 1, np.int64(7), 10**12])
def test_a_claimed_size_may_be_any_whole_number_that_a_data_set_can_have(count):
    update = Update(1, ClientId(0), {}, count)
    assert admit(update, {}, ClientId(0), 1) is update


@pytest.mark.parametrize("shape", [(5, 3), (5,), (5, 2, 1), ()])
def test_the_other_sides_are_exact(shape):
    assert not accepted(ArraySpec((9, 2), rows_of="prompts"), shape, SENT)
