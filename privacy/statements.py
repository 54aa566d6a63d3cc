"""The guarantee in words and figures, as it is written into a run and its report."""

from typing import Any

from privacy.ledger import Budget

_NOT_COVERED = [
    "accuracy figures and all other results of evaluation",
    "timing, and which clients took part",
    "images, prompts, gates and models that stay on the client, if they are given away",
    "examples that the server itself holds",
    "further runs on the same data: their budgets add up",
]


def of_steps(
    budget: Budget, rounds: int, mode: str, counts: str, seed: int | None
) -> dict[str, Any]:
    """State the guarantee of private gradient steps.

    Args:
        budget: Each client's budget.
        rounds: Rounds that a client can take part in at most.
        mode: ``joint`` or ``decoupled``.
        counts: ``withheld`` or ``public``.
        seed: The insecure seed, if any.

    Returns:
        JSON.
    """
    return {
        "unit": "one training example of one client",
        "neighbours": "add or remove one example",
        "private": "the sequence of all uploads of a client"
        + (
            ", and all else that it trains"
            if mode == "joint"
            else "; its gate is not, and never leaves"
        ),
        "steps_per_round": budget.units,
        **_common(budget, rounds, counts, seed),
    }


def of_uploads(budget: Budget, rounds: int, counts: str, seed: int | None) -> dict[str, Any]:
    """State the guarantee of noised uploads; see `of_steps`."""
    return {
        "unit": "all data of one client",
        "neighbours": "replace them by any others",
        "private": "the sequence of all uploads of a client; what it keeps is not",
        **_common(budget, rounds, counts, seed),
    }


def _common(budget: Budget, rounds: int, counts: str, seed: int | None) -> dict[str, Any]:
    size = "the number of a client's examples, which is declared public"
    return {
        "epsilon_budget": budget.epsilon,
        "rounds_planned": rounds,
        "epsilon_planned": budget.spent(rounds * budget.units),
        "mechanism": dict(budget.mechanism),
        "not_covered": [*_NOT_COVERED, *([size] if counts == "public" else [])],
        "is_private": seed is None,
        "caveats": _caveats(budget, seed),
    }


def _caveats(budget: Budget, seed: int | None) -> list[str]:
    found = []
    if seed is not None:
        found.append("noise comes from a known seed: this run is NOT private")
    if budget.mechanism.get("accountant") == "gdp":
        found.append("GDP is a central limit approximation: the true epsilon can be larger")
    return found
