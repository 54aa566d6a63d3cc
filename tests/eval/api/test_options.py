"""Options given as keywords: put together as on the command line, and refused as there."""

from pathlib import Path

import numpy as np
import pytest

import pfedmoap
from eval.api.options import resolved
from eval.choices import schema
from pfedmoap.engine.engines import FlowerSimulation, Local
from pfedmoap.errors import ConfigError

LINE = ["--method", "promptfl", "--seed", "4", "--device", "cpu", "--rounds.rounds", "3"]


def test_keywords_mean_what_the_command_line_means():
    config, _ = schema().parse(LINE, "")
    found = resolved(None, {"method": "promptfl", "seed": 4, "device": "cpu", "rounds__rounds": 3})
    assert found.sections == config.sections


def test_where_clients_train_is_an_option_that_no_run_records():
    found = resolved(None, {"engine": "flower", "engine__num_gpus": 0.5})
    assert found.build("engine") == FlowerSimulation(num_gpus=0.5)
    assert resolved(None, {}).build("engine") == Local()
    assert found.sections == resolved(None, {}).sections
    with pytest.raises(ConfigError, match="num_gpus"):
        resolved(None, {"engine": {"name": "flower", "num_gpus": -1}})


def test_a_file_is_read_and_keywords_take_precedence(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("rounds: {rounds: 7, evaluate_every: 7}\nseeds: {training: 9}\n")
    for path in (file, str(file)):
        found = resolved(path, {"rounds": {"rounds": 2}, "seed": 1, "seeds__few_shot": 5})
        assert found.sections["rounds"]["rounds"] == 2
        assert found.sections["rounds"]["evaluate_every"] == 7
        assert found.sections["seeds"] == {"partition": 1, "few_shot": 5, "training": 1}


@pytest.mark.parametrize("flip", [1, -1])
def test_the_order_of_keywords_does_not_matter(flip):
    given = {"method__context_length": 3, "method": "promptfl", "method__name": "fedprox"}
    found = resolved({"method": "pfedmoap"}, dict(list(given.items())[::flip]))
    assert found.sections["method"]["name"] == "fedprox"
    assert found.sections["method"]["context_length"] == 3


def test_paths_and_numbers_of_numpy_are_taken():
    found = resolved(None, {"data": {"name": "folder", "root": Path("a/b")}, "seed": np.int64(3)})
    assert found.sections["data"]["root"] == "a/b"
    assert found.sections["seeds"]["training"] == 3


def test_what_was_given_is_not_changed():
    config = {"rounds": {"rounds": 2}}
    resolved(config, {"rounds__rounds": 3})
    assert config == {"rounds": {"rounds": 2}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metod": "promptfl"}, "metod"),
        ({"method": "promptfll"}, "promptfll"),
        ({"method__expert": 2}, "experts"),
        ({"rounds": {"rounds": 0}}, "rounds"),
        ({"rounds__rounds": "many"}, "rounds"),
        ({"rounds": 3}, "rounds"),
        ({"rounds__": 3}, "rounds"),
        ({"seed": "x"}, "seed"),
        ({"data": {"name": "folder"}}, "root"),
        ({"config": 5}, "mapping of sections or the path"),
        ({"config": "no-such-file.yaml"}, "no-such-file.yaml"),
    ],
)
def test_what_is_wrong_is_an_error_of_the_package_and_trains_nothing(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        pfedmoap.train(out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
