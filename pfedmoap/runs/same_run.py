"""Whether a command may take a run up: the same configuration on the same data and weights."""

import json
from collections.abc import Iterator
from pathlib import Path

from pfedmoap.errors import RunError
from pfedmoap.runs.log import Record


def refuse_other_run(
    run: Path, old: tuple[Record, Record], new: tuple[Record, Record], divided: tuple[bool, bool]
) -> None:
    """Refuse a command that means another run than the one in the folder.

    Args:
        run: The folder, for the message.
        old: Configuration and task of the run that is there.
        new: What the command says, as it would be stored.
        divided: Whether the run there has a private part, and whether it should have one.

    Raises:
        RunError: They differ; the message says in what.
    """
    config, task = (json.loads(json.dumps(record)) for record in new)
    if differing := list(_differences(old[0], config)):
        raise RunError(f"{run} was started with another configuration: " + "; ".join(differing))
    if divided[0] != divided[1]:
        raise RunError(
            f"{run} is a private run of a version that kept clients' results beside what may be "
            "shared; start it anew in another folder with --out"
        )
    if changed := list(_differences(old[1], task)):
        names = ", ".join(sorted({line.split()[0].split(".")[0] for line in changed}))
        raise RunError(
            f"{run} was started on other data or weights (differing: {names}); its state means "
            "nothing to these. Choose another folder with --out"
        )


def _differences(old: Record, new: Record, prefix: str = "") -> Iterator[str]:
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            yield f"{prefix}{key} was {a!r}, is {b!r}"
