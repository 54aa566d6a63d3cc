"""A comparison's table for the terminal, and as CSV, Markdown and LaTeX."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from eval.comparison.cells import Results, promises_privacy
from eval.comparison.csv_tables import clients_csv, curves_csv, table_csv
from eval.comparison.overall import Overall, over_tasks
from eval.comparison.paired import Difference
from eval.comparison.summary import Row, Spread, other_data, table_rows
from eval.escaping import for_latex, for_markdown
from pfedmoap.runs.layout import make_private_folder
from pfedmoap.storage.atomic_files import write_bytes


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Attributes:
        heading: Its heading.
        text: Its cell of a row; empty where a row has none.
    """

    heading: str
    text: Callable[[Row], str]


COLUMNS = (
    Column("accuracy %", lambda row: in_percent(row.mean)),
    Column("worst decile %", lambda row: in_percent(row.worst_decile)),
    Column("global %", lambda row: in_percent(row.global_union)),
    Column("unseen clients %", lambda row: in_percent(row.unseen)),
    Column("new classes %", lambda row: in_percent(row.new)),
    Column("harmonic %", lambda row: in_percent(row.harmonic)),
    Column("domain left out %", lambda row: in_percent(row.left_out)),
    Column("difference [95% CI]", lambda row: interval(row.difference)),
    Column("better / worse", lambda row: wins(row.difference)),
    Column("down / round", lambda row: in_bytes(row.down_bytes.mean)),
    Column("up / round", lambda row: in_bytes(row.up_bytes.mean)),
    Column("queries", lambda row: f"{row.queries.mean:.0f}" if row.queries else ""),
    Column("train s", lambda row: f"{row.train_seconds.mean:.1f}"),
)
ALL_TASKS = "mean over all tasks"
FIGURES, COSTS = COLUMNS[:-5], COLUMNS[-5:]
_DIFFERENCE = 7  # place of the first column that is no accuracy


def in_percent(figure: Spread | None) -> str:
    """Format an accuracy and its spread over seeds in per cent, e.g. ``81.25 ± 0.40``."""
    if figure is None:
        return ""
    spread = "" if figure.std is None else f" ± {100 * figure.std:.2f}"
    return f"{100 * figure.mean:.2f}{spread}"


def interval(difference: Difference | None) -> str:
    """Format a difference in percentage points with its interval; * marks one seed alone."""
    if difference is None:
        return ""
    text = f"{100 * difference.mean:+.2f}"
    if difference.low is not None and difference.high is not None:
        text += f" [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"
    return text + ("*" if difference.unit == "clients" else "")


def wins(difference: Difference | None) -> str:
    """Format the shares of (seed, client) pairs that are better and worse."""
    if difference is None:
        return ""
    return f"{100 * difference.wins:.0f}% / {100 * difference.losses:.0f}%"


def in_bytes(size: float) -> str:
    """Format a size with a binary unit, e.g. ``12.5 KiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def terminal_tables(results: Results) -> list[Table]:
    """Format the table for a terminal: figures and costs of each task, in 80 columns."""
    tables = []
    for task, rows in _by_task(results):
        tables.append(_terminal_table(*row_texts(rows, FIGURES), task, None))
        tables.append(_terminal_table(*row_texts(rows, COSTS), None, table_note(results, rows)))
    if overall := over_tasks(results):
        tables.append(_terminal_table(*overall_texts(overall), ALL_TASKS, None))
    return tables


def markdown(results: Results) -> str:
    """Write the table as Markdown, one table a task."""
    parts = []
    for task, rows in _by_task(results):
        headings, cells = row_texts(rows)
        lines = [
            f"### {task}",
            "",
            _bar(headings),
            _bar(["---", *("---:" for _ in headings[1:])]),
            *(_bar(row) for row in cells),
            "",
            table_note(results, rows),
        ]
        parts.append("\n".join(lines))
    if overall := over_tasks(results):
        headings, cells = overall_texts(overall)
        bars = [_bar(headings), _bar(["---", *("---:" for _ in headings[1:])])]
        parts.append("\n".join([f"### {ALL_TASKS}", "", *bars, *(_bar(row) for row in cells)]))
    return "\n\n".join(parts) + "\n"


def latex(results: Results) -> str:
    """Write the table for LaTeX with booktabs, one ``tabular`` a task."""
    parts = []
    for task, rows in _by_task(results):
        headings, cells = row_texts(rows)
        lines = [
            f"% {task}. {table_note(results, rows)}",
            rf"\begin{{tabular}}{{l{'r' * len(headings[1:])}}}",
            r"\toprule",
            _ampersands(headings),
            r"\midrule",
            *(_ampersands(row) for row in cells),
            r"\bottomrule",
            r"\end{tabular}",
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def overall_texts(rows: Sequence[Overall]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the means over tasks."""
    cells = [
        [row.method, str(row.seeds), in_percent(row.mean), interval(row.difference) or "-"]
        for row in rows
    ]
    return ["method", "seeds", "accuracy %", "difference [95% CI]"], cells


def row_texts(
    rows: Sequence[Row], among: Sequence[Column] = COLUMNS
) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of one task's table, as texts; columns without any text are left out."""
    columns = [column for column in among if any(column.text(row) for row in rows)]
    if among is not COSTS:
        place = next((i for i, one in enumerate(columns) if one in COLUMNS[_DIFFERENCE:]), None)
        place = len(columns) if place is None else place
        columns[place:place] = [
            Column(f"on {label} %", lambda row, label=label: in_percent(row.elsewhere.get(label)))  # type: ignore[misc]
            for label in other_data(rows)
        ]
    cells = [[row.method, *(column.text(row) or "-" for column in columns)] for row in rows]
    return ["method", *(column.heading for column in columns)], cells


def write_tables(results: Results, out: Path) -> Path:
    """Write every file form of the table.

    Args:
        results: What to tabulate.
        out: The comparison's folder. Where a cell is private, its folder `PRIVATE` takes the
            tables: results of evaluation are not covered by any guarantee.

    Returns:
        The folder of the tables.
    """
    private = promises_privacy(results.comparison)
    folder = make_private_folder(out) if private else out
    files = {
        "table.csv": table_csv,
        "table.md": markdown,
        "table.tex": latex,
        "curves.csv": curves_csv,
        "clients.csv": clients_csv,
    }
    for name, form in files.items():
        write_bytes(folder / name, form(results).encode(), private=private)
    return folder


def _terminal_table(
    headings: Sequence[str], cells: Sequence[Sequence[str]], title: str | None, note: str | None
) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        caption=note,
        caption_justify="left",
        padding=(0, 1, 0, 0),
    )
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left")
    for row in cells:
        table.add_row(*row)
    return table


def _by_task(results: Results) -> list[tuple[str, list[Row]]]:
    rows = table_rows(results)
    return [
        (task, [r for r in rows if r.task == task]) for task in dict.fromkeys(r.task for r in rows)
    ]


def table_note(results: Results, rows: Sequence[Row]) -> str:
    """Make the note below one task's table."""
    seeds = sorted({row.seeds for row in rows})
    count = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    note = (
        f"After the last round; mean ± standard deviation over {count} seed(s) of the unweighted "
        "mean over clients."
    )
    if all(row.difference is None for row in rows):
        return note
    note += f" Differences, in points, are against {results.comparison.reference}, "
    if results.comparison.differences == "global":
        return (
            note + "of the global models, paired by seed; the interval is Student's t over seeds."
        )
    note += "paired by seed and client; the interval is Student's t over seeds"
    return note + (" (*: one seed, t over its clients)." if seeds[0] == 1 else ".")


def _bar(cells: Iterable[str]) -> str:
    return "| " + " | ".join(for_markdown(cell) for cell in cells) + " |"


def _ampersands(cells: Iterable[str]) -> str:
    return " & ".join(for_latex(cell) for cell in cells) + r" \\"
