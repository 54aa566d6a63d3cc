"""Run the cells of a published table whose data and weights are available."""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

from eval.choices import schema
from eval.comparison.cells import SOURCE, Advance, claimed, refuse_another_comparison, run_cell
from eval.comparison.spec import Cell, Comparison, comparison
from eval.experiment import ExperimentLoader
from eval.results import is_finished
from pfedmoap.config.schema import Section
from pfedmoap.data.published.catalogue import READERS
from pfedmoap.errors import BackboneError, DataError, PFedMoAPError, RunError
from pfedmoap.storage.atomic_files import write_json


@dataclass(frozen=True)
class Adjustments:
    """What a machine changes about a table's comparison.

    Attributes:
        data_root: Folder in place of ``data``, with the data sets.
        download: Fetch missing data where torchvision can.
        official_divisions: Use the data sets' own divisions in place of CoOp's files.
        base: Options that override those of all cells, e.g. the device.
        seeds: How many of the seeds to run; ``None`` runs all.
    """

    data_root: Path = Path("data")
    download: bool = False
    official_divisions: bool = False
    base: Section | None = None
    seeds: int | None = None


def adjusted(source: Section, changes: Adjustments) -> Comparison:
    """Resolve a table's comparison for this machine.

    Args:
        source: Content of the comparison file.
        changes: What to change.

    Returns:
        The comparison.

    Raises:
        ConfigError: An option is wrong.
    """
    tasks = {label: _with_data(task, changes) for label, task in source["tasks"].items()}
    base = schema().merge(_with_data(source["base"], changes), changes.base or {})
    seeds = source["seeds"][: changes.seeds]
    return comparison({**source, "base": base, "tasks": tasks, "seeds": seeds})


def run_available(
    plan: Comparison, out: Path, advance: Advance = lambda *_: None
) -> dict[Path, str]:
    """Run every cell whose data and backbone are available; finished cells are kept.

    Args:
        plan: The comparison.
        out: Its folder; a killed run continues in it.
        advance: Shows how far it is.

    Returns:
        Why the other cells could not run, by their folder.

    Raises:
        RunError: The folder holds something else, or a cell was run before with another
            configuration.
    """
    claimed(out)
    refuse_another_comparison(plan, out)
    write_json(out / SOURCE, plan.source)
    loader = ExperimentLoader(progress=False)
    refused: dict[str, str | None] = {}
    missing: dict[Path, str] = {}
    for done, cell in enumerate(plan.cells):
        advance(cell, done, 0, 0)
        if not is_finished(out / cell.folder):
            reasons = [reason for reason in _obstacles(cell, loader, refused) if reason is not None]
            if reasons:
                missing[cell.folder] = "\n".join(reasons)
                continue
        try:
            run_cell(cell, out, loader, partial(advance, cell, done))
        except RunError:
            raise
        except PFedMoAPError as error:
            missing[cell.folder] = str(error)
    return missing


def _obstacles(
    cell: Cell, loader: ExperimentLoader, known: dict[str, str | None]
) -> tuple[str | None, str | None]:
    """Why its data and its backbone are unavailable; each is tried once and cached in ``known``."""
    config = cell.config

    def tried(section: str, attempt: Callable[[], object]) -> str | None:
        key = f"{section} {json.dumps(config.sections[section])}"
        if key not in known:
            try:
                attempt()
            except (BackboneError, DataError) as error:
                known[key] = str(error)
            else:
                known[key] = None
        return known[key]

    return (
        tried("data", lambda: loader.dataset(config)),
        tried("backbone", lambda: loader.backbone(config)),
    )


def _with_data(options: Section, changes: Adjustments) -> Section:
    """Move a data section to this machine's folder."""
    if "data" not in options:
        return options
    given = options["data"]
    data = {"name": given} if isinstance(given, str) else dict(given)
    defaults = {field.name: field.default for field in fields(READERS[data["name"]])}
    place = Path(str(data.get("root", defaults["root"])))
    if not place.is_absolute() and place.parts[:1] == ("data",):
        data["root"] = str(changes.data_root.joinpath(*place.parts[1:]))
    if changes.download and "download" in defaults:
        data["download"] = True
    if changes.official_divisions:
        data.pop("split_file", None)
    return {**options, "data": data}
