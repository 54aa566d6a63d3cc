"""Arrays on Flower's wire: what is written is read again, and nothing else is."""

import pytest
import torch
from flwr.app import Array, ArrayRecord

from pfedmoap.contract.tasks import ArraySpec
from pfedmoap.engine.flower.arrays import from_record, to_record
from pfedmoap.errors import UpdateRejectedError

ARRAYS = {
    "context": torch.arange(6.0).reshape(2, 3),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "clients": torch.tensor([3, 1]),
    "count": torch.tensor(7),
    "mask": torch.tensor([True, False]),
    "double": torch.rand(2, dtype=torch.float64),
    "nothing": torch.zeros(0, 4),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_what_is_written_is_read_again(name):
    found = from_record(to_record({name: ARRAYS[name]}))[name]
    assert found.dtype == ARRAYS[name].dtype
    assert torch.equal(found, ARRAYS[name])


def test_floats_are_halved_on_the_wire_alone():
    record = to_record({"context": ARRAYS["context"] + 0.1}, "float16")
    found = from_record(record)["context"]
    assert {name: len(array.data) for name, array in record.items()} == {"context": 12}
    assert torch.equal(found, (ARRAYS["context"] + 0.1).half().float())


RAW = bytes(8)
FAULTS = {
    "pickle": Array("float32", (2,), "pickle", RAW),
    "numpy.ndarray": Array("float32", (2,), "numpy.ndarray", RAW),
    "float32 in form": Array("complex64", (1,), "pfedmoap.float32", RAW),
    "8 bytes, expected 12": Array("float32", (3,), "pfedmoap.float32", RAW),
    "expected 4000": Array("float32", (10**3,), "pfedmoap.float32", RAW),
    "has shape": Array("float32", (-1, -2), "pfedmoap.float32", RAW),
    "shall be int64": Array("float32", (2,), "pfedmoap.int64", RAW),
}


@pytest.mark.parametrize("what", FAULTS)
def test_arrays_of_another_form_are_refused(what):
    with pytest.raises(UpdateRejectedError, match=what if what != "float32 in form" else "complex"):
        from_record(ArrayRecord({"x": FAULTS[what]}))


def test_names_shapes_and_sizes_are_checked_before_any_array_is_made():
    record = to_record({"context": ARRAYS["context"]})
    assert from_record(record, {"context": ArraySpec((2, 3))})
    with pytest.raises(UpdateRejectedError, match=r"expected \(2, 2\)"):
        from_record(record, {"context": ArraySpec((2, 2))})
    with pytest.raises(UpdateRejectedError, match="expected \\['prompt'\\]"):
        from_record(record, {"prompt": ArraySpec((2, 3))})
    with pytest.raises(UpdateRejectedError, match="24 bytes of arrays, at most 23"):
        from_record(record, most=23)


def test_a_type_without_a_form_is_refused_before_it_is_sent():
    with pytest.raises(UpdateRejectedError, match="bfloat16"):
        to_record({"x": torch.zeros(2, dtype=torch.bfloat16)})
