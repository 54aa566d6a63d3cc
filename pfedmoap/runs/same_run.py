"""Check that a command may resume a run: same configuration, data and weights."""

import json
from collections.abc import Iterator
from pathlib import Path

from pfedmoap.data.known_data import KEY, KnownData, changes_between
from pfedmoap.errors import RunError
from pfedmoap.runs.log import Record

_NEW = "is an option that the version which started the run did not have"
_PLACES = ("data.root ", "data.file ", "data.path ")  # data may move, where the run knows them


def refuse_other_run(
    run: Path, old: tuple[Record, Record], new: tuple[Record, Record], divided: tuple[bool, bool]
) -> None:
    """Raise an error if a command is about another run than the one in the folder.

    Args:
        run: The folder, for the message.
        old: Configuration and task of the run that is there.
        new: What the command says, as it would be stored.
        divided: Whether the run there has a private part, and whether it should have one.

    Raises:
        RunError: They differ; the message says in what.
    """
    config, task = (json.loads(json.dumps(record)) for record in new)
    known, now = old[1].get(KEY), task.get(KEY)
    movable = _PLACES if known is not None and now is not None else ()
    differing = [
        line for line in _differences(old[0], config) if not line.startswith(movable or (" ",))
    ]
    if differing:
        newer = any(_NEW in line for line in differing)
        remedy = ". Finish it with the version that started it, or choose another folder with --out"
        raise RunError(
            f"{run} was started with another configuration: "
            + "; ".join(differing)
            + (remedy if newer else "")
        )
    if divided[0] != divided[1]:
        raise RunError(
            f"{run} is a private run of a version that kept clients' results beside what may be "
            "shared; start it anew in another folder with --out"
        )
    both_known = known is not None and now is not None
    if both_known and (what := changes_between(KnownData.read(known), KnownData.read(now))):
        raise RunError(
            f"the data of {run} changed since it was started: {what}. It goes on only with the "
            "data that it knows: put them back, or choose another folder with --out"
        )
    left = (KEY, "data") if both_known else (KEY,)  # a folder gives its data their name
    before, after = ({k: v for k, v in one.items() if k not in left} for one in (old[1], task))
    if changed := list(_differences(before, after)):
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
        elif key not in old:
            yield f"{prefix}{key} {_NEW}"
        elif a != b:
            yield f"{prefix}{key} was {a!r}, is {b!r}"
