"""The command: its table, what failed, the choice and its test; what it says of a wrong file."""

import json

import pytest

from eval.commands import sweep
from tests.helpers.sweeps import tiny


@pytest.fixture(scope="module")
def file(cache, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "sweep.yaml"
    path.write_text(json.dumps(tiny(cache, space={"partition.clients": [60, 4]})))
    return path


def test_it_prints_scores_failures_and_the_test_of_the_choice(file, tmp_path, capsys):
    out = tmp_path / "out"
    sweep.main([str(file), "--out", str(out)])
    shown = capsys.readouterr()
    assert "2: clients=4 (chosen)" in shown.out
    assert "failed: validation-1-seed0: PartitionError" in shown.out
    assert (
        "chosen: 2: clients=4. On test images, trained on all training images, 1 seed(s)"
        in shown.out
    )
    assert f"its options: {out / 'chosen.yaml'}" in shown.out
    lines = [line for line in shown.err.splitlines() if line.startswith("trials: job ")]
    assert [line.split(",")[0] for line in lines] == [f"trials: job {i}/3" for i in (1, 2, 3)]
    assert "warning: trial 1: clients=60, seed 0 failed: PartitionError" in shown.err
    with pytest.raises(SystemExit):
        sweep.main([str(file), "--out", str(out)])
    assert "continue it with --resume" in capsys.readouterr().err
    sweep.main([str(file), "--out", str(out), "--resume", "--quiet"])
    again = capsys.readouterr()
    assert "2: clients=4 (chosen)" in again.out
    assert "trials: job" not in again.err


def test_a_wrong_file_ends_in_one_line(tmp_path, cache, capsys):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(json.dumps(tiny(cache, space={"training.learning_rat": [0.1]})))
    with pytest.raises(SystemExit):
        sweep.main([str(wrong), "--out", str(tmp_path / "out")])
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert "training.learning_rate" in shown
    assert not (tmp_path / "out").exists()
