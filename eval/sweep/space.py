"""What a sweep varies: lists of values, and ranges that Optuna draws from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from eval.choices import training_schema
from pfedmoap.config.exact_options import refuse_unknown_keys
from pfedmoap.errors import ConfigError

FIXED = ("sampling.validation", "sampling.classes", "sampling.left_out_domain")
"""Options that say what is learnt or what is tested: trials that differ in them compare nothing."""

Point = dict[str, Any]  # values of options by their names, such as ``training.learning_rate``


@dataclass(frozen=True)
class Values:
    """Some values, of any type."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; whole ones where both are.

    Attributes:
        low: The least.
        high: The largest.
        log: Draw their logarithm evenly.
        step: Only every so many from ``low`` on; ``None`` for all.
    """

    low: float
    high: float
    log: bool
    step: float | None

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Space = Mapping[str, Values | Range]


def read_space(given: object) -> Space:
    """Read the ``space`` of a sweep's file.

    Raises:
        ConfigError: It is empty, or an axis is no option, no list and no range, or has no value.
    """
    if not isinstance(given, dict) or not given:
        raise ConfigError(f"space must hold at least one option with its values, got {given!r}")
    return {str(name): _axis(str(name), values) for name, values in given.items()}


def _axis(name: str, given: object) -> Values | Range:
    section, _, option = name.partition(".")
    known = {*training_schema().fixed, *training_schema().choices}
    if section not in known or (not option and section not in training_schema().choices):
        raise ConfigError(
            f"space.{name}: name an option with its section, such as training.learning_rate, or a "
            f"choice ({', '.join(sorted(training_schema().choices))})"
        )
    if section == "seeds" or name in FIXED:
        raise ConfigError(f"space.{name} cannot be varied: the sweep, or what it compares, sets it")
    if isinstance(given, list):
        if not given:
            raise ConfigError(f"space.{name} has no value")
        if any(given.index(value) < place for place, value in enumerate(given)):
            raise ConfigError(f"space.{name} has a value twice: {given!r}")
        return Values(tuple(given))
    if not isinstance(given, dict):
        raise ConfigError(
            f"space.{name} must be a list of values, or a range such as {{low: 0.001, high: 0.1, "
            f"log: true}}, got {given!r}"
        )
    refuse_unknown_keys(given, ("low", "high", "log", "step"), f"space.{name}")
    low, high, step = given.get("low", 0), given.get("high", 0), given.get("step")
    log = given.get("log", False)
    numbers = all(type(one) in (int, float) for one in (low, high))
    if not numbers or not low < high or type(log) is not bool:
        raise ConfigError(f"space.{name} needs low < high, and log true or false, got {given!r}")
    if log and low <= 0:
        raise ConfigError(f"space.{name} is logarithmic, so that low must be above 0: {given!r}")
    if step is not None and (log or type(step) not in (int, float) or step <= 0):
        raise ConfigError(f"space.{name}.step must be above 0, and none with log, got {given!r}")
    return Range(low, high, log, step)


def points_in(space: Space) -> int | None:
    """How many combinations there are; ``None`` where an axis is a range."""
    sizes = [len(axis.values) for axis in space.values() if isinstance(axis, Values)]
    return prod(sizes) if len(sizes) == len(space) else None


def grid(space: Space) -> list[Point]:
    """All combinations, the last axis varying fastest.

    Raises:
        ConfigError: An axis is a range.
    """
    axes: list[tuple[Any, ...]] = []
    for name, axis in space.items():
        if isinstance(axis, Range):
            raise ConfigError(
                f"space.{name} is a range, of which a grid has no values: list them, or draw with "
                "`search: {name: optuna, trials: 20}`"
            )
        axes.append(axis.values)
    return [dict(zip(space, values, strict=True)) for values in product(*axes)]


def corners(space: Space) -> Iterator[Point]:
    """Points that reach every value of every list, and both ends of every range."""
    ends = {
        name: axis.values if isinstance(axis, Values) else (axis.low, axis.high)
        for name, axis in space.items()
    }
    for place in range(max(len(values) for values in ends.values())):
        yield {name: values[min(place, len(values) - 1)] for name, values in ends.items()}


def sections_of(point: Point) -> dict[str, Any]:
    """Turn a point into options by section; a choice comes before its options."""
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(point, key=lambda name: "." in name and not name.endswith(".name")):
        section, _, option = name.partition(".")
        found.setdefault(section, {})[option or "name"] = point[name]
    return found


def label_of(number: int, point: Point) -> str:
    """Name a trial by what it varies: ``3: learning_rate=0.02, experts=5``."""
    last = [name.rpartition(".")[2] for name in point]
    parts = [
        f"{short if last.count(short) == 1 else name}={_short(point[name])}"
        for name, short in zip(point, last, strict=True)
    ]
    text = f"{number}: {', '.join(parts)}"
    return text if len(text) <= 100 else f"{text[:97]}..."


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
