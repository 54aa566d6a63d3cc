"""Values that nobody means: each configuration is refused with a clear error, or can be run."""

from collections.abc import Callable, Mapping
from functools import cache
from math import inf, nan
from pathlib import Path
from random import Random
from typing import Any

import pytest

from eval.choices import schema
from eval.experiment import Experiment, ExperimentLoader
from pfedmoap.config.bounds import range_of, types_of
from pfedmoap.config.schema import Config, Schema
from pfedmoap.errors import PFedMoAPError
from tests.helpers.runs import small

HOSTILE = (
    None,
    nan,
    inf,
    -inf,
    -1,
    0,
    1,
    2,
    0.5,
    1e-320,
    1e308,
    -0.0,
    2**31,
    2**63,
    -(2**63),
    10**400,
    "",
    " ",
    "nan",
    "inf",
    "1e999",
    "-1",
    "null",
    "\0",
    "[",
    "{}",
    "&a",
    "x" * 5000,
    "../..",
    "%s",
    "\x1b[31m",
    "\u202e",
    "\ud800",
    "é",
    True,
    False,
    [],
    {},
    [None],
    {"a": nan},
    [[[]]],
    {1: 2},
)
SLOW = {"views", "train_per_cell", "test_per_cell", "max_draws", "fine_tune_epochs"}
COSTLY = {"fed_bbpt", "fedotp", "fedsp", "pfpt"}  # other features of every image than a vector


def options_of(random: Random) -> tuple[str, str | None, Mapping[str, Any]]:
    """A section, a choice of it, and the types of its options."""
    forms = schema()
    section = random.choice([*forms.fixed, *forms.choices])
    if section in forms.fixed:
        return section, None, types_of(forms.fixed[section])
    name = random.choice([*forms.choices[section]])
    return section, name, types_of(forms.choices[section][name])


def hostile(random: Random, hint: Any) -> Any:
    """A value of any type, or an end of the option's own range."""
    bounds = range_of(hint)
    if bounds is None or random.random() < 0.6:
        return random.choice(HOSTILE)
    ends = [end for end in (bounds.ge, bounds.gt, bounds.le, bounds.lt) if end is not None]
    return random.choice([*(int(end) if end == int(end) else end for end in ends), *ends])


def edge(random: Random, hint: Any) -> Any:
    """An end of an option's range; a hostile value where it has none."""
    bounds = range_of(hint)
    if bounds is None:
        return random.choice(HOSTILE)
    ends = [end for end in (bounds.ge, bounds.gt, bounds.le, bounds.lt) if end is not None]
    end = random.choice(ends)
    return int(end) if end == int(end) else end


def configuration(random: Random) -> dict[str, Any]:
    """A configuration with hostile values in a few options, and sometimes a hostile section."""
    config: dict[str, Any] = {}
    for _ in range(random.randint(2, 4)):
        section, name, types = options_of(random)
        if random.random() < 0.05:
            config[section] = random.choice(HOSTILE)
            continue
        chosen = random.sample(sorted(types), min(len(types), random.randint(1, 2)))
        values = {option: hostile(random, types[option]) for option in chosen}
        config[section] = values if name is None else {"name": name, **values}
    return config


def outcome(attempt: Callable[[], Any]) -> Any:
    """What an attempt gives, or the message with which it is refused on purpose."""
    try:
        return attempt()
    except PFedMoAPError as error:
        return str(error)


@pytest.fixture
def quick_parsers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the parser of each combination of choices once."""
    make = Schema.parser_for

    @cache
    def known(names: tuple[tuple[str, str], ...]) -> Any:
        return make(schema(), dict(names))

    monkeypatch.setattr(Schema, "parser_for", lambda _, names: known(tuple(sorted(names.items()))))


@pytest.mark.usefixtures("quick_parsers")
def test_2000_hostile_configurations_are_refused_or_resolved():
    random, resolved = Random(0), 0
    for _ in range(2000):
        config = configuration(random)
        found = outcome(lambda config=config: schema().resolve(config))
        resolved += isinstance(found, Config)
        assert isinstance(found, Config) or 0 < len(found) < 1500, config
    assert 20 < resolved < 1500  # both kinds are there in numbers


@pytest.mark.usefixtures("quick_parsers")
def test_what_resolves_can_be_prepared_or_is_refused(loader: ExperimentLoader, cache: Path):
    """Ends of ranges, and hostile values where there is no range, of two options at a time."""
    random, prepared, forms = Random(1), 0, schema()
    for _ in range(30):
        section = random.choice(["method", "partition", "sampling", "privacy", "training"])
        choices = forms.choices.get(section, {})
        chosen = random.choice(sorted({*choices} - COSTLY)) if choices else None
        types = types_of(choices[chosen] if chosen else forms.fixed[section])
        options = sorted(set(types) - SLOW - {"setting", "endpoint"})
        values = {o: edge(random, types[o]) for o in random.sample(options, min(len(options), 2))}
        config = small(cache) | {section: ({"name": chosen} if chosen else {}) | values}
        found = outcome(lambda config=config: loader.prepare(schema().resolve(config)))
        if isinstance(found, Experiment):
            outcome(lambda experiment=found: experiment.privatizer(None))
            prepared += 1
    assert 2 < prepared < 28
