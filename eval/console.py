"""Text and tables in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from eval.accuracy import ClientScore, Summary
from eval.escaping import for_terminal

_WIDEST = 10_000


class PlainConsole(Console):
    """Prints text as it is: no markup, no emoji codes, and no character that acts on a terminal.

    What is printed holds names that others chose, so that this is done in one place for all.
    """

    def __init__(
        self, *, stderr: bool = False, quiet: bool = False, width: int | None = None
    ) -> None:
        super().__init__(stderr=stderr, quiet=quiet, width=width, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:  # rich's own, passed on
        """Turn a string, also of a table's cell or title, into what is printed."""
        return super().render_str(for_terminal(text), **options)

    def print_whole(self, table: Table) -> None:
        """Print a table as wide as it is: no cell is cut; a narrow terminal wraps its lines."""
        before = self.width
        wide = self.options.update(max_width=_WIDEST)
        self.width = max(before, Measurement.get(self, wide, table).maximum)
        try:
            self.print(table)
        finally:
            self.width = before


console = PlainConsole()


def say(text: str | None) -> None:
    """Print a text, if there is one, as it is: lines are neither wrapped nor coloured."""
    if text is not None:
        console.print(text, highlight=False, soft_wrap=True)


def percent(value: float | None) -> str:
    """Format an accuracy in per cent with two digits, or a dash where there is none."""
    return "-" if value is None else f"{100 * value:.2f}"


def client_table(scores: Sequence[ClientScore], title: str) -> Table:
    """Make the table with one row a client."""
    table = Table(title=title, title_justify="left")
    domains = any(score.domain is not None for score in scores)
    for heading in ("client", *(("domain",) if domains else ()), "train", "test"):
        table.add_column(heading, justify="left" if heading == "domain" else "right")
    for heading in ("accuracy %", "macro-F1 %", "global %"):
        table.add_column(heading, justify="right")
    for score in scores:
        table.add_row(
            str(score.client),
            *((score.domain or "-",) if domains else ()),
            str(score.train_images),
            str(score.test_images),
            percent(score.accuracy),
            percent(score.macro_f1),
            percent(score.global_accuracy),
        )
    return table


def summary_table(summary: Summary, title: str) -> Table:
    """Make the table of figures over all clients."""
    table = Table(title=title, title_justify="left", show_header=False)
    rows = (
        ("personalised accuracy, mean over clients", summary.mean),
        ("  weighted by test images", summary.weighted_mean),
        ("  standard deviation over clients", summary.std),
        ("  worst decile of clients", summary.worst_decile),
        ("personalised macro-F1, mean over clients", summary.macro_f1),
        ("personalised calibration error (ECE), mean", summary.ece),
        ("global model, mean over clients", summary.global_mean),
        ("global model, union of test sets", summary.global_union),
        *(
            (("unseen clients, mean", summary.unseen_mean),)
            if summary.unseen_mean is not None
            else ()
        ),
    )
    for name, value in rows:
        table.add_row(name, f"{percent(value)} %" if value is not None else "-")
    table.add_row("Jain's fairness index over clients", f"{summary.jain:.3f}")
    return table


def figures_table(figures: Mapping[str, float], title: str) -> Table:
    """Make a table of named accuracies."""
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in figures.items():
        table.add_row(name, f"{percent(value)} %")
    return table
