"""A sweep of a tiny run."""

from pathlib import Path
from typing import Any

from tests.helpers.runs import small


def tiny(cache: Path, **change: Any) -> dict[str, Any]:  # keys of a sweep's file
    """Two trials with one seed, of a run of one round, in this process."""
    base = small(
        cache,
        method={"name": "promptfl", "context_length": 2},
        rounds={"rounds": 1},
    )
    source = {
        "base": base,
        "space": {"training.learning_rate": [0.5, 1e-6]},
        "seeds": [0],
        "executor": "here",
    }
    return source | change
