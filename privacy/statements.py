"""Statements of the guarantee, as written into a run and its report."""

import platform
from importlib.metadata import version
from typing import Any

from pfedmoap.contract.capabilities import CanPersonalise
from pfedmoap.contract.method import AnyMethod
from privacy.accounting.plan import ClientRounds
from privacy.ledgers.ledger import Budget

_PARTICIPATION = "timing, and which clients took part"
_NOT_COVERED = [
    "accuracy figures and all other results of evaluation",
    _PARTICIPATION,
    "how examples were drawn and shared out over clients before the run, and errors before round 1",
    "images, prompts, gates and models that stay on the client, if they are given away",
    "examples that the server itself holds",
    "further runs on the same data that do not share their ledgers: their budgets add up",
]


_NOISE = (
    "AES-256 in counter mode, with a fresh key of 256 bits from the operating system for every "
    "draw, which is kept nowhere; Gaussian by Box and Muller in float64, four draws to a value; "
    "added to the clipped sum on a grid, without rounding errors that depend on data"
)
_KNOWN_SEED = "a seed that is written in the configuration: whoever has it can subtract the noise"
_LIBRARIES = (
    "pfedmoap",
    "torch",
    "opacus",
    "dp-accounting",
    "cryptography",
)  # that make or account for noise

_UNITS = {
    "example": {
        "unit": "one training example of one client",
        "neighbours": "add or remove one example",
    },
    "group": {
        "unit": "one person: all training examples of one group at one client",
        "neighbours": "add or remove all examples of one group",
    },
}
_SPREAD = "people with examples at several clients: the budgets of these clients add up for them"


def of_steps(
    budget: Budget,
    rounds: ClientRounds,
    mode: str,
    counts: str,
    seed: int | None,
    method: AnyMethod,
) -> dict[str, Any]:
    """State the guarantee of private gradient steps.

    Args:
        budget: Each client's budget.
        rounds: Rounds that a client can take part in at most, and why.
        mode: ``joint`` or ``decoupled``.
        counts: ``withheld`` or ``public``.
        seed: The insecure seed, if any.
        method: The method; what it trains without noise is left out of what is private.

    Returns:
        JSON.
    """
    return {
        **_UNITS[str(budget.mechanism.get("unit", "example"))],
        "private": "the sequence of all uploads of a client"
        + (", and all else that its rounds train" if mode == "joint" else "")
        + "".join(
            f"; not {what}, without noise, never uploaded" for what in _unnoised(mode, method)
        ),
        "steps_per_round": budget.units,
        **_common(budget, rounds, counts, seed),
    }


def of_uploads(
    budget: Budget, rounds: ClientRounds, counts: str, seed: int | None
) -> dict[str, Any]:
    """State the guarantee of noised uploads; see `of_steps`."""
    return {
        "unit": "all data of one client",
        "neighbours": "replace them by any others",
        "private": "the sequence of all uploads of a client; what it keeps is not",
        **_common(budget, rounds, counts, seed),
    }


def _unnoised(mode: str, method: AnyMethod) -> list[str]:
    """What a client trains without noise beside its private steps."""
    found = []
    if mode == "decoupled":
        found.append("its gate, or whatever else is trained apart")
    if isinstance(method, CanPersonalise):
        found.append("the copy that it tunes on its own examples for inference")
    return found


def of_server(
    budget: Budget, rounds: ClientRounds, clients: int, seed: int | None
) -> dict[str, Any]:
    """State the guarantee of a noised mean at a trusted server.

    Args:
        budget: The server's budget.
        rounds: Rounds of the run.
        clients: How many clients can be drawn, which is public.
        seed: The insecure seed, if any.

    Returns:
        JSON.
    """
    common = _common(budget, rounds, "withheld", seed)
    return {
        "unit": "a client with all its data",
        "neighbours": "add or remove one client; the list of who could take part is public",
        "private": "the sequence of the server's states and of what it sends, against other "
        "clients and the public",
        "trusted": "the server: it sees every upload as it is, and who took part",
        "clients": clients,
        **common,
        "not_covered": [
            "the server itself: it is trusted with every upload",
            "the run's folder private/, which says who took part",
            "timing, and by it how many clients took part",
            *(what for what in common["not_covered"] if what != _PARTICIPATION),
        ],
    }


def _common(budget: Budget, rounds: ClientRounds, counts: str, seed: int | None) -> dict[str, Any]:
    size = "the number of a client's examples, which is declared public"
    return {
        "epsilon_budget": budget.epsilon,
        "rounds_planned": rounds.count,
        "rounds_planned_because": rounds.why,
        "epsilon_planned": budget.spent(rounds.count * budget.units),
        "mechanism": dict(budget.mechanism),
        "not_covered": [
            *_NOT_COVERED,
            *([_SPREAD] if budget.mechanism.get("unit") == "group" else []),
            *([size] if counts == "public" else []),
        ],
        "noise_made": _NOISE if seed is None else _KNOWN_SEED,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _LIBRARIES},
        },
        "is_private": seed is None,
        "caveats": _caveats(seed),
    }


def _caveats(seed: int | None) -> list[str]:
    return [] if seed is None else ["noise comes from a known seed: this run is NOT private"]
