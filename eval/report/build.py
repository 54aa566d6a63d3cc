"""From folders to a page."""

from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

from eval.comparison.cells import SOURCE, promises_privacy, read_results
from eval.comparison.spec import comparison
from eval.experiment import ExperimentLoader
from eval.promise import is_private
from eval.report.comparison_section import comparison_parts, runs_part
from eval.report.page import Part, render
from eval.report.run_data import read_evidence
from eval.report.run_section import run_part
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.storage.atomic_files import read_json

_WARNING = (
    "This page is private. Its figures are computed from clients' data without noise (accuracies, "
    "numbers of images, predictions), and no guarantee of the runs covers them: do not publish it."
)


def build_report(
    folders: Sequence[Path],
    loader: ExperimentLoader,
    title: str | None = None,
    root: str | None = None,
) -> str:
    """Make a page of runs and comparisons.

    Args:
        folders: Run directories, or folders of comparisons.
        loader: Loads what the runs name.
        title: The page's title; ``None`` takes the first folder's name.
        root: Where the data of the runs are, if they have moved.

    Returns:
        Self-contained HTML.

    Raises:
        RunError: A folder is neither, or nothing in it is finished.
    """
    owner = private_folder(folders)
    comparisons = [folder for folder in folders if (folder / SOURCE).exists()]
    parts: list[Part] = []
    for folder in comparisons:
        parts += comparison_parts(read_results(folder), folder)
    alone = [folder for folder in folders if folder not in comparisons]
    runs = [
        read_evidence(folder, loader, name, root)
        for folder, name in zip(alone, different_names(alone), strict=True)
    ]
    if len(runs) > 1:
        parts.append(runs_part(runs))
    parts += [run_part(run) for run in runs]
    return render(title or folders[0].resolve().name, parts, warning=_WARNING * bool(owner))


def different_names(folders: Sequence[Path]) -> list[str]:
    """The folders' names; one that came before gets a number.

    Example:
        >>> different_names([Path("a/run"), Path("b/run")])
        ['run', 'run (2)']
    """
    names: list[str] = []
    for name in (folder.resolve().name for folder in folders):
        later = (f"{name} ({number})" for number in count(2))
        names.append(next(one for one in chain([name], later) if one not in names))
    return names


def private_folder(folders: Sequence[Path]) -> Path | None:
    """The first of some runs and comparisons that holds private results; ``None`` if none does.

    Raises:
        RunError: A folder is neither a run nor a comparison.
    """
    for folder in folders:
        if (folder / SOURCE).exists():
            if promises_privacy(comparison(read_json(folder / SOURCE))):
                return folder
        elif is_private(RunDirectory(folder).config):
            return folder
    return None
