"""Both parts of a server's state, and the whole that they make."""

import pytest
import torch

from pfedmoap.contract.server_rows import ServerRows, divide, joined
from pfedmoap.wire.messages import ClientId


def whole():
    return {
        "context": torch.ones(2),
        "ids": torch.tensor([2, 5, 9]),
        "rows": torch.arange(12.0).view(3, 2, 2),
        "scales": torch.tensor([1, 2, 3], dtype=torch.int16),
    }


def test_both_parts_make_the_whole():
    shared, rows = divide(whole(), "ids", ("rows", "scales", "absent"))
    assert set(shared) == {"context"}
    assert list(rows.of) == [2, 5, 9]
    assert rows.of[ClientId(5)]["rows"].tolist() == [[4, 5], [6, 7]]
    again = joined(shared, rows)
    assert again.keys() == whole().keys()
    for name, array in whole().items():
        assert torch.equal(again[name], array)
        assert again[name].dtype == array.dtype


def test_a_state_without_clients_has_one_part():
    shared, rows = divide({"context": torch.ones(2)}, "ids", ("rows",))
    assert (set(shared), rows) == ({"context"}, None)
    assert set(joined(shared, ServerRows("ids", {}))) == {"context"}


def test_somebody_else_has_no_entry():
    _, rows = divide(whole(), "ids", ("rows",))
    with pytest.raises(KeyError):
        rows.of[ClientId(3)]
