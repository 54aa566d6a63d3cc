"""Ranges of options: declared in the type of a field, checked and explained in one place.

An option says its range where it says its type, ``epochs: Count`` or
``Annotated[float, Bounds(gt=0, le=1)]``. A configuration is checked against them before anything
is read or loaded, and ``--help`` shows them. An option without a range has one all the same: a
number with a fraction is finite, a whole number has 64 bits, a text has at most `LONGEST_TEXT`
characters and no null character. Options of methods from outside are checked in the same way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import signature
from math import isfinite
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pfedmoap.errors import ConfigError, PFedMoAPError

MOST = 1_000_000  # of what is counted: rounds, steps, clients, images in a batch
LARGEST = 1e9  # of a plain number: squares and products of a few stay finite in float32
LONGEST_TEXT = 4096  # characters, as many as a path may have
WHOLE_BITS = 63  # and a sign


@dataclass(frozen=True)
class Bounds:
    """The range of a number; at most one of each pair is given.

    Examples:
        >>> Bounds(gt=0, le=1)
        above 0 and at most 1
        >>> Bounds(ge=1).admit(0)
        False

    Attributes:
        ge: Least value.
        gt: What every value is above.
        le: Largest value.
        lt: What every value is below.
    """

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def admit(self, value: float) -> bool:
        """Whether a value is in the range; not a number never is."""
        return (
            (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )

    def __repr__(self) -> str:
        ends = (
            ("at least", self.ge),
            ("above", self.gt),
            ("at most", self.le),
            ("below", self.lt),
        )
        return " and ".join(f"{word} {_short(end)}" for word, end in ends if end is not None)


Count = Annotated[int, Bounds(ge=1, le=MOST)]
Whole = Annotated[int, Bounds(ge=0, le=MOST)]
Positive = Annotated[float, Bounds(gt=0, le=LARGEST)]
NotNegative = Annotated[float, Bounds(ge=0, le=LARGEST)]
AnyNumber = Annotated[float, Bounds(ge=-LARGEST, le=LARGEST)]
Fraction = Annotated[float, Bounds(gt=0, lt=1)]
Share = Annotated[float, Bounds(gt=0, le=1)]
Decay = Annotated[float, Bounds(ge=0, lt=1)]


def check_options(
    made: object, section: str, error: type[PFedMoAPError] = ConfigError, skip: str = "setting"
) -> None:
    """Refuse an object, made of options, with a value outside its range.

    Args:
        made: A dataclass's instance.
        section: Where its options stand in a configuration.
        error: What is raised.
        skip: A field that is no option.

    Raises:
        PFedMoAPError: Of the class asked for; the message names the option and its range.
    """
    kind: type = type(made)
    for name, hint in types_of(kind).items():
        if name != skip:
            check_value(f"{section}.{name}", hint, getattr(made, name), error)


def check_section(
    kind: type, section: str, options: Mapping[str, Any], *, read: bool = True
) -> None:
    """Refuse options of a class that are outside their ranges.

    Args:
        kind: What is made of them.
        section: Where they stand in a configuration.
        options: Values by name.
        read: Whether texts such as ``1e-3`` have been read as the numbers that they are.

    Raises:
        ConfigError: A value is; the message names the option and its range.
    """
    hints = types_of(kind)
    for name, value in options.items():
        if name in hints and (read or not isinstance(value, str)):
            check_value(f"{section}.{name}", hints[name], value)


@cache
def types_of(kind: type) -> Mapping[str, Any]:
    """Types of a class's options with their ranges, in order; ``Any`` where it cannot be known."""
    try:
        hints = get_type_hints(kind, include_extras=True)
    except Exception:  # a name that only a type checker imports: any module of a user's can be here
        hints = {}
    return {name: hints.get(name, Any) for name in signature(kind).parameters}


def check_value(
    where: str, hint: Any, value: Any, error: type[PFedMoAPError] = ConfigError
) -> None:
    """Refuse a value that an option's type, with its range, does not admit.

    Args:
        where: The option.
        hint: Its type.
        value: Of any type.
        error: What is raised.

    Raises:
        PFedMoAPError: Of the class asked for.
    """
    if not _admits(hint, value):
        raise error(f"{where} must be {described(hint)}, got {shown(value)}")


def shown(value: Any) -> str:
    """Format a value for a message, shortened."""
    if value is None:
        return "nothing (null)"
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:60]} ... ({len(text)} characters)"


def described(hint: Any) -> str:
    """Describe in words what an option's type admits."""
    hint, bounds = _parts(hint)
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(described(arm) for arm in get_args(hint))
    if get_origin(hint) is Literal:
        return " or ".join(repr(choice) for choice in get_args(hint))
    origin = get_origin(hint) or hint
    named = {
        int: "a whole number",
        float: "a finite number",
        str: f"text of at most {LONGEST_TEXT} characters without a null character",
        bool: "true or false",
        NoneType: "null",
    }.get(origin)
    if named is None and isinstance(origin, type) and issubclass(origin, (Sequence, Mapping)):
        inner = [described(arm) for arm in get_args(hint) if arm is not Ellipsis]
        kind = "options by name" if issubclass(origin, Mapping) else "a list"
        named = f"{kind} of {inner[-1]}" if inner else kind
    if origin is int and bounds is None:
        named = f"a whole number of at most {WHOLE_BITS} bits"
    return (named or "a finite value") + ("" if bounds is None else f", {bounds}")


def range_of(hint: Any) -> Bounds | None:
    """The range in a type, also one that may be absent; ``None`` where it declares none."""
    hint, bounds = _parts(hint)
    inner = [range_of(arm) for arm in get_args(hint)] if bounds is None else [bounds]
    return next((found for found in inner if found is not None), None)


def _parts(hint: Any) -> tuple[Any, Bounds | None]:
    if get_origin(hint) is not Annotated:
        return hint, None
    base, *marks = get_args(hint)
    return base, next((mark for mark in marks if isinstance(mark, Bounds)), None)


def _admits(hint: Any, value: Any) -> bool:
    hint, bounds = _parts(hint)
    origin = get_origin(hint) or hint
    if origin in (Union, UnionType):
        return any(_admits(arm, value) for arm in get_args(hint))
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(hint))
    if origin in (int, float):
        number = isinstance(value, Integral if origin is int else Real)
        if not number or isinstance(value, bool) or not _sound(value):
            return False
        return bounds is None or bounds.admit(value)
    if origin in (bool, NoneType):
        return isinstance(value, origin)
    if origin is str:
        return isinstance(value, str) and _sound(value)
    if isinstance(value, (list, tuple)):
        inner = [arm for arm in get_args(hint) if arm is not Ellipsis]
        return all(_admits(inner[0] if len(inner) == 1 else Any, item) for item in value)
    if isinstance(value, Mapping):
        inner = list(get_args(hint))
        return all(
            _admits(inner[-1] if inner else Any, item) and _sound(key)
            for key, item in value.items()
        )
    if isinstance(origin, type) and origin is not Any and value is None:
        return origin is object
    return _sound(value)


def _sound(value: Any) -> bool:
    """Whether a value of any type is within the default limits."""
    if isinstance(value, Integral):
        return -(1 << WHOLE_BITS) <= int(value) < 1 << WHOLE_BITS
    if isinstance(value, Real):
        return isfinite(value)
    return not isinstance(value, str) or (len(value) <= LONGEST_TEXT and "\0" not in value)


def _short(end: float) -> str:
    return str(int(end)) if float(end).is_integer() and abs(end) < 1e9 else f"{end:g}"
