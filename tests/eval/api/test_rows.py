"""Tables of figures, with pandas and without."""

import sys

import pytest

from eval.api.rows import Rows, row_of
from pfedmoap.errors import ConfigError

TABLE = Rows([{"round": 1, "mean": None}, {"round": 2, "mean": 0.5}])


def test_a_table_is_a_sequence_of_rows():
    assert len(TABLE) == 2
    assert TABLE[-1] == {"round": 2, "mean": 0.5}
    assert TABLE[1:].column("round") == [2]
    assert [row["round"] for row in TABLE] == [1, 2]
    assert TABLE.column("mean") == [None, 0.5]
    assert TABLE.column("other") == [None, None]


def test_without_pandas_the_frame_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)  # importing it fails
    with pytest.raises(ConfigError, match=r"pip install .pfedmoap\[frames\]"):
        _ = TABLE.frame


def test_with_pandas_the_rows_are_a_frame():
    pandas = pytest.importorskip("pandas")
    expected = pandas.DataFrame({"round": [1, 2], "mean": [None, 0.5]})
    pandas.testing.assert_frame_equal(TABLE.frame, expected)


def test_a_row_adds_up_the_clients_of_a_round():
    record = {
        "round": 2,
        "cohort": [0, 2],
        "train_seconds": 0.5,
        "train_loss": {"0": 1.0, "2": 3.0},
        "traffic": [
            {"client": 0, "down_bytes": {"a": 1, "b": 2}, "up_bytes": {"a": 4}},
            {"client": 2, "down_bytes": {"a": 1}, "up_bytes": {"a": 4}},
        ],
        "rejected": {"2": "not finite"},
        "epsilon": {"0": 1.5, "2": 2.5},
        "evaluation": {"clients": 2, "mean": 0.75},
    }
    row = row_of(record)
    assert (row["train_loss"], row["epsilon"], row["rejected"]) == (2.0, 2.5, 1)
    assert (row["down_bytes"], row["up_bytes"], row["mean"]) == (4, 8, 0.75)
    assert row.keys() == row_of({"round": 1}).keys()


def test_what_a_record_does_not_tell_is_none_and_not_nothing():
    """Participants that are kept secret have empty entries in the public part."""
    record = {"round": 1, "cohort": [], "traffic": [], "rejected": {}, "train_loss": {}}
    assert {name for name, value in row_of(record).items() if value is not None} == {"round"}
