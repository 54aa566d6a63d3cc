"""Which value an option takes: what is given, what the method recommends, the option's default."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import yaml

from eval.choices import schema
from pfedmoap.client.local_training import Training
from pfedmoap.config.recommended import Recommended
from pfedmoap.config.schema import Schema
from pfedmoap.errors import ConfigError
from tests.helpers.places import ROOT


@dataclass(frozen=True)
class Careful:
    """A method with a recommendation."""

    recommended: ClassVar[Recommended] = {"training": {"learning_rate": 0.001, "local_steps": 7}}

    depth: int = 1


@dataclass(frozen=True)
class Plain:
    """A method without one."""


@dataclass(frozen=True)
class Mistaken:
    """A method that recommends what is no option."""

    recommended: ClassVar[Recommended] = {"training": {"speed": 3}}


SMALL = Schema(
    {"training": Training},
    {"method": {"careful": Careful, "plain": Plain, "mistaken": Mistaken}},
    {"method": "plain"},
)


def training(*arguments: str) -> tuple[float, int | None]:
    config, _ = SMALL.parse(list(arguments), "a test")
    section = config.sections["training"]
    assert SMALL.resolve(config.sections).sections == config.sections  # a run reads itself back
    return section["learning_rate"], section["local_steps"]


def test_given_comes_before_recommended_before_default(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("training: {learning_rate: 0.3}")
    assert training() == (0.002, None)
    assert training("--method", "careful") == (0.001, 7)
    assert training("--config", str(file), "--method", "careful") == (0.3, 7)
    assert training("--method", "careful", "--training.learning_rate", "0.1") == (0.1, 7)
    assert training("--method", "careful", "--training.learning_rate", "0.002") == (0.002, 7)


def test_who_gives_epochs_wants_epochs(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("training: {epochs: 5}")  # the default, but said
    assert training("--method", "careful", "--training.epochs", "3")[1] is None
    assert training("--config", str(file), "--method", "careful")[1] is None
    both = ("--training.epochs", "3", "--training.local_steps", "2")
    assert training("--method", "careful", *both)[1] == 2


def test_a_recommendation_is_no_option_and_is_checked_like_one():
    with pytest.raises(ConfigError, match="recommended"):
        SMALL.resolve({"method": {"name": "careful", "recommended": 3}})
    with pytest.raises(ConfigError, match="speed"):
        SMALL.resolve({"method": "mistaken"})


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("pfpt", (1e-4, 16, 5, None)),
        ("fedotp", (1e-3, 32, 5, None)),
        ("fedpgp", (1e-3, 32, 2, None)),
        ("fedsp", (5e-4, 16, 5, 10)),
        ("promptfl", (2e-3, 32, 5, None)),
    ],
)
def test_methods_train_as_their_papers_do(method, expected):
    section = schema().resolve({"method": method}).sections["training"]
    names = ("learning_rate", "batch_size", "epochs", "local_steps")
    assert tuple(section[name] for name in names) == expected


def test_the_demo_trains_every_method_as_it_says():
    """A file's options are given ones, whichever method it is read with."""
    demo = yaml.safe_load((ROOT / "eval/configs/demo.yaml").read_text())
    for method in ("fedsp", "pfpt", "fedpgp"):
        section = schema().resolve(demo | {"method": method}).sections["training"]
        assert {name: section[name] for name in demo["training"]} == demo["training"]
        assert section["local_steps"] is None
