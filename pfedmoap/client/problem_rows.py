"""What of a local problem belongs to its clients, and what stays the same from batch to batch.

A captured step reads tensors at fixed addresses. Two problems may share one step where they differ
only in tensors with the client axis: these are copied into the step's buffers, and all else has to
be the very same objects, or equal plain values.
"""

from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass, replace
from types import FunctionType, MethodType
from typing import Any

from torch import Tensor

from pfedmoap.client.problem import OF_CLIENTS, ROWS, Problem
from pfedmoap.wire.messages import Arrays

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


class NotStaticError(Exception):
    """A problem does not say what a captured step has to know; it is trained step by step."""


def client_rows(problem: Problem) -> dict[str, Tensor]:
    """Collect a problem's tensors with the client axis, by name, each (K, ...).

    Raises:
        NotStaticError: It is no dataclass.
    """
    found = {}
    for name, value in _fields(problem, of_clients=True).items():
        if isinstance(value, Tensor):
            found[name] = value
        elif value is not None:
            found |= {f"{name}.{part}": tensor for part, tensor in value.items()}
    return found


def with_client_rows(problem: Problem, rows: Arrays) -> Problem:
    """Put other tensors in the place of those that `client_rows` found."""
    changed: dict[str, Any] = {}  # of any field
    for name, value in _fields(problem, of_clients=True).items():
        if isinstance(value, Tensor):
            changed[name] = rows[name]
        elif value is not None:
            changed[name] = {part: rows[f"{name}.{part}"] for part in value}
    anything: Any = problem  # a dataclass, which the protocol cannot express
    found: Problem = replace(anything, **changed)
    return found


def identity(problem: Problem) -> Hashable:
    """What two problems must have in common to share a step, but for shapes of client rows.

    Objects count by identity: whoever keeps the result keeps the problem as well.

    Raises:
        NotStaticError: A field holds tensors and does not say whose they are, or a function that
            may carry tensors of one batch of clients.
    """
    own = _fields(problem, of_clients=False)
    kinds = {each.name: each.metadata for each in _declared(problem)}
    return (
        type(problem),
        *((name, _identity(name, value, ROWS in kinds[name])) for name, value in own.items()),
    )


def identity_of_options(value: object) -> Hashable:
    """Like `identity`, of an optimiser or another object that holds options alone."""
    return _identity(type(value).__name__, value, declared=False)


def _identity(name: str, value: object, declared: bool) -> Hashable:
    if isinstance(value, _PLAIN):
        return (type(value), value)
    if isinstance(value, tuple):
        return tuple(_identity(name, each, declared) for each in value)
    if isinstance(value, Tensor) or (
        isinstance(value, Mapping) and any(isinstance(each, Tensor) for each in value.values())
    ):
        if not declared:
            raise NotStaticError(
                f"its field {name!r} holds tensors and does not say whose they are"
            )
        return id(value) if isinstance(value, Tensor) else tuple(map(id, value.values()))
    if isinstance(value, MethodType):
        return (id(value.__func__), id(value.__self__))
    if isinstance(value, FunctionType):
        if value.__closure__:
            raise NotStaticError(f"its field {name!r} is a function made for one batch of clients")
        return id(value)
    if is_dataclass(value) and not any(
        isinstance(v, Tensor | Mapping) for v in vars(value).values()
    ):
        parts = ((each.name, getattr(value, each.name)) for each in fields(value) if each.compare)
        return (type(value), *((part, _identity(part, own, False)) for part, own in parts))
    return id(value)


def _fields(problem: Problem, *, of_clients: bool) -> dict[str, Any]:
    """Values, of any type, of the fields that belong to clients, or of the others."""
    wanted = [
        each.name
        for each in _declared(problem)
        if (each.metadata.get(ROWS) == OF_CLIENTS[ROWS]) == of_clients
    ]
    return {name: getattr(problem, name) for name in wanted}


def _declared(problem: object) -> tuple[Any, ...]:  # dataclasses.Field is generic in anything
    if not is_dataclass(problem):
        raise NotStaticError("it is no dataclass")
    return fields(problem)
