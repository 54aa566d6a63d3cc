"""``cache``: list, verify and prune the cache of image features."""

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.table import Table

from eval.commands.errors import readable_errors
from eval.comparison.tables import in_bytes
from eval.console import console, say
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.config.suggestions import none_such
from pfedmoap.data.feature_cache import Contents, Entry, contents, prune, to_prune
from pfedmoap.data.feature_store import cache_folder
from pfedmoap.data.federation import Features
from pfedmoap.errors import ConfigError

ACTIONS = ("list", "verify", "prune")
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Look after the cache; see ``--help``."""
    parser = command_parser(
        "List, verify or prune the cache of image features. Deleting from it loses nothing but "
        "time. Verifying ends with exit code 1 where something is damaged. Pruning is safe beside "
        "running processes, and touches nothing that this package did not write."
    )
    parser.add_argument("action", nargs="?", default="list", help="list, verify or prune")
    parser.add_argument(
        "--features.cache", type=str, default=Features.cache, help="folder of the cache"
    )
    parser.add_argument(
        "--unused_days", type=float | None, help="prune what nobody read for so long"
    )
    parser.add_argument("--older_days", type=float | None, help="prune what was made so long ago")
    parser.add_argument(
        "--to_size",
        type=str | None,
        help="prune what was unused longest until the rest has this size, such as 10GB",
    )
    parser.add_argument("--damaged", type=bool, default=False, help="prune what is not whole")
    parser.add_argument("--dry_run", type=bool, default=False, help="only say what would be pruned")
    parser.add_argument("--json", type=bool, default=False, help="print JSON")
    options = parse(parser, arguments)
    if options.action not in ACTIONS:
        raise ConfigError(none_such("action", options.action, ACTIONS))
    held = contents(cache_folder(options["features.cache"]))
    if options.action == "prune":
        _prune(held, options)
        return
    problems = {entry.name: entry.problem() for entry in held.entries if options.action == "verify"}
    if options.json:
        _print_json(_listed(held, problems if options.action == "verify" else None))
    else:
        _show(held, problems if options.action == "verify" else None)
    if any(problems.values()):
        sys.exit(1)


def size_in_bytes(text: str) -> int:
    """Read a size such as ``500MB``, ``1.5 GB`` or ``0``; units are powers of 1,024.

    Raises:
        ConfigError: It is none.
    """
    tidy = text.strip().lower().removesuffix("b").removesuffix("i").strip()
    number, unit = (tidy[:-1], tidy[-1]) if tidy[-1:] in {"k", "m", "g", "t"} else (tidy, "")
    try:
        size = float(number) * _UNITS[unit]
    except ValueError as error:
        raise ConfigError(f"--to_size must be a size such as 10GB, got {text!r}") from error
    if not 0 <= size < 2**63:
        raise ConfigError(f"--to_size must be a size such as 10GB, got {text!r}")
    return int(size)


def _prune(held: Contents, options: Any) -> None:  # parsed options
    names = ("unused_days", "older_days", "to_size")
    given = [name for name in names if getattr(options, name) is not None]
    if not given and not options.damaged:
        raise ConfigError(
            "say what may go: --unused_days N, --older_days N, --to_size SIZE or --damaged"
        )
    chosen = to_prune(
        held,
        unused_days=options.unused_days,
        older_days=options.older_days,
        to_bytes=None if options.to_size is None else size_in_bytes(options.to_size),
        damaged=options.damaged,
    )
    gone = chosen if options.dry_run else prune(held, chosen)
    size = sum(entry.size_bytes for entry in gone)
    if options.json:
        _print_json(
            {"removed": [entry.name for entry in gone], "bytes": size, "dry_run": options.dry_run}
        )
        return
    verb = "would remove" if options.dry_run else "removed"
    for entry in gone:
        say(f"{verb} {entry.name}: {_what(entry)}")
    left = held.size_bytes - size
    say(
        f"{verb} {len(gone)} of {len(held.entries)} entries, {in_bytes(size)}; "
        f"{in_bytes(left)} stay in {held.folder}"
    )


def _show(held: Contents, problems: dict[str, str | None] | None) -> None:
    table = Table(title=str(held.folder), title_justify="left", padding=0)
    for heading in ("entry", "data", "features", "size", "made", "used"):
        table.add_column(heading, justify="right" if heading == "size" else "left")
    if problems is not None:
        table.add_column("state")
    for entry in held.entries:
        row = [entry.name[:12], str(entry.about.get("dataset", "?")), _kind(entry)]
        row += [in_bytes(entry.size_bytes), _day(entry.made), _day(entry.used)]
        if problems is not None:
            row.append("whole" if problems[entry.name] is None else "DAMAGED")
        table.add_row(*row)
    console.print(table)
    for name, problem in (problems or {}).items():
        if problem is not None:
            say(f"{name}: {problem}; remove it: cache prune --damaged")
    free = "" if held.free_bytes is None else f"; {in_bytes(held.free_bytes)} free on that disk"
    say(
        f"{len(held.entries)} entries, {in_bytes(held.size_bytes)}{free}; "
        f"{len(held.unfinished)} unfinished, {len(held.foreign)} other files that are not ours"
    )


def _listed(held: Contents, problems: dict[str, str | None] | None) -> dict[str, object]:
    return {
        "folder": str(held.folder),
        "bytes": held.size_bytes,
        "free_bytes": held.free_bytes,
        "unfinished": list(held.unfinished),
        "foreign": list(held.foreign),
        "entries": [
            {
                "name": entry.name,
                "about": entry.about,
                "bytes": entry.size_bytes,
                "made": entry.made,
                "used": entry.used,
            }
            | ({} if problems is None else {"problem": problems[entry.name]})
            for entry in held.entries
        ],
    }


def _print_json(found: object) -> None:
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


def _what(entry: Entry) -> str:
    return f"{entry.about.get('dataset', '?')}, {_kind(entry)}, {in_bytes(entry.size_bytes)}"


def _kind(entry: Entry) -> str:
    views = entry.about.get("augmented_views", 0)
    return str(entry.about.get("kind", "?")) + (f", {views} views" if views else "")


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d")
