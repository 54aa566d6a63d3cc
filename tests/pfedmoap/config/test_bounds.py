"""Ranges of options: declared with the type, checked before anything is read, shown in help."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, nan
from typing import Annotated, Any, Literal

import pytest

from eval.choices import schema
from pfedmoap.client.local_training import Training
from pfedmoap.config.bounds import (
    Bounds,
    Count,
    Positive,
    check_options,
    check_value,
    described,
    types_of,
)
from pfedmoap.config.schema import Schema
from pfedmoap.errors import ConfigError
from pfedmoap.methods.registry import Methods


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"training": None}, "section 'training' must hold options, got nothing"),
        ({"training": {"epochs": None}}, "training.epochs must be .* at least 1"),
        ({"data": {"name": None}}, "data.name must be text, got nothing"),
        ({"data": {"name": "folder", "root": None}}, "data.root must be text"),
        ({"data": {"name": "scenes", "styles": None}}, "data.styles must be a list"),
        ({"method": {"context_length": None}}, "method.context_length must be .* at least 1"),
        ({"seeds": {"training": None}}, "seeds.training must be a whole number"),
        ({"features": {"cache": None}}, "features.cache must be text"),
        ({"backbone": {"precision": None}}, "backbone.precision must be 'fp32' or"),
        ({"training": {None: 3}}, "has no option nothing"),
        ({"method": {"context_length": -1}}, "method.context_length must be .* at least 1 and"),
        ({"method": {"gate_width": 0}}, "method.gate_width must be .* at least 1"),
        ({"training": {"learning_rate": nan}}, "training.learning_rate must be a finite number"),
        ({"method": {"own_weight": inf}}, "method.own_weight must be a finite number"),
        ({"method": {"attention_scale": inf}}, "method.attention_scale must be .* or 'sqrt'"),
        ({"partition": {"name": "dirichlet", "alpha": inf}}, "partition.alpha must be a finite"),
        ({"rounds": {"rounds": 10**12}}, "rounds.rounds must be .* at most 1000000, got"),
        ({"method": {"name": "fedotp", "iterations": 10**9}}, "method.iterations must be .* most"),
        ({"seeds": {"training": 2**63}}, "seeds.training must be a whole number of at most 63"),
        ({"method": {"context_init": "a\0"}}, "method.context_init must be text .* null character"),
        ({"data": {"name": "folder", "root": "x" * 5000}}, "data.root must be .* 4096 characters"),
        ({"privacy": {"name": "dpsgd", "epsilon": inf}}, "privacy.epsilon must be a finite number"),
        ({"privacy": {"name": "central", "delta": 0.5}}, "privacy.delta must be .* below 0.5"),
        ({"training": {"batch_size": 10**5000}}, "training.batch_size must be .* at most 1000000"),
    ],
)
def test_a_hostile_value_is_refused_with_the_option_and_its_range(section: Any, message: str):
    with pytest.raises(ConfigError, match=message) as refused:
        schema().resolve(section)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--training.epochs", "0"], "training.epochs must be .* at least 1 .*, got 0"),
        (["--training.epochs", "null"], "training.epochs must be .* at least 1"),
        (["--training.learning_rate", "nan"], "training.learning_rate must be .* above 0"),
        (["--training.learning_rate", "1e999"], "training.learning_rate must be .* above 0"),
        (["--rounds.rounds", "1" + "0" * 5000], "rounds.rounds must be .* at most 1000000"),
        (["--training.epochs", "x"], "training.epochs must be .*, got x|.*; got x"),
    ],
)
def test_a_hostile_value_on_the_command_line_is_refused_in_one_line(words: list[str], message: str):
    with pytest.raises(ConfigError, match=message) as refused:
        schema().parse(words, "a test")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["day: 2020-13-45", "a: " + "[" * 400, "a: &b [*b]", "training:"])
def test_a_hostile_file_is_refused(text: str, tmp_path):
    file = tmp_path / "hostile.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError):
        schema().parse(["--config", str(file)], "a test")


def test_help_shows_the_ranges(capsys):
    with pytest.raises(SystemExit):
        schema().parse(["--help", "all"], "a test")
    shown = " ".join(capsys.readouterr().out.split())
    assert "Part of each class that is held out for testing; above 0 and below 1." in shown
    assert "Passes over the client's data in one round; at least 1 and at most 1000000." in shown
    assert "Annotated" not in shown


@dataclass(frozen=True)
class Foreign:
    """Somebody's method, which declares no range.

    Attributes:
        setting: Not an option.
        rate: A rate.
        steps: A number of steps.
        table: Numbers by name.
        scale: A number or a word.
    """

    setting: object = None
    rate: float = 0.1
    steps: int = 3
    table: Mapping[str, float] | None = None
    scale: Annotated[float, Bounds(gt=0, le=1)] | Literal["sqrt"] = "sqrt"


@pytest.mark.parametrize(
    "options",
    [{"rate": nan}, {"rate": -inf}, {"steps": 2**70}, {"table": {"a": nan}}, {"scale": 1.5}],
)
def test_options_of_foreign_methods_are_finite_and_have_64_bits(options: dict[str, Any]):
    foreign = Schema({}, {"method": {"foreign": Foreign}}, {"method": "foreign"})
    option = next(iter(options))
    with pytest.raises(ConfigError, match=rf"method\.{option} must be"):
        foreign.resolve({"method": options})
    assert foreign.resolve({"method": {"rate": 1e3, "scale": 1, "table": {"a": 2}}})


def test_types_that_only_a_checker_knows_leave_values_that_are_checked_by_themselves(tmp_path):
    """A module may import its annotations for type checking alone."""
    kind = type("Lazy", (), {"__annotations__": {"rate": "NoSuchType"}, "rate": 1.0})
    made: Any = dataclass(frozen=True)(kind)
    with pytest.raises(ConfigError, match=r"method\.rate must be a finite value"):
        check_options(made(rate=nan), "method")
    check_options(made(rate=2.0), "method")


def test_objects_made_in_python_are_held_to_the_same_ranges():
    with pytest.raises(ConfigError, match=r"training\.momentum must be .* below 1, got 1.0"):
        Training(momentum=1.0)


def test_every_number_of_every_section_has_a_range_or_the_default_one():
    """No option of any section or choice takes a number that is not finite."""
    forms = schema()
    kinds = [*forms.fixed.items()]
    kinds += [(s, k) for s, choices in forms.choices.items() for k in map(choices.get, choices)]
    methods = Methods()
    assert {kind for section, kind in kinds if section == "method"} == {
        methods[name] for name in methods
    }
    for section, kind in kinds:
        assert kind is not None
        for name, hint in types_of(kind).items():
            if name != "setting" and kind.__name__ != "NoPrivacy":
                assert described(hint) != "a finite value", (section, kind, name)
                for value in (nan, inf, -inf, 10**400):
                    with pytest.raises(ConfigError):
                        check_value(f"{section}.{name}", hint, value)


def test_ranges_in_words():
    assert described(Count) == "a whole number, at least 1 and at most 1000000"
    assert described(Positive | None) == "a finite number, above 0 and at most 1e+09 or null"
    assert not Bounds(gt=0).admit(nan)
