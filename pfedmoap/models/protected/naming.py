"""Names of arrays: a part's name and a dot before the arrays' own names."""

from torch import Tensor

from pfedmoap.wire.messages import Arrays


def named(part: str, arrays: Arrays) -> dict[str, Tensor]:
    """Put a part's name before its arrays' names."""
    return {f"{part}.{name}": value for name, value in arrays.items()}


def part_of(part: str, arrays: Arrays) -> dict[str, Tensor]:
    """Inverse of `named`: a part's arrays by their own names."""
    start = f"{part}."
    return {name[len(start) :]: value for name, value in arrays.items() if name.startswith(start)}
