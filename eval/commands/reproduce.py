"""``reproduce``: run the published tables and compare with the paper's figures."""

from collections.abc import Sequence
from pathlib import Path

from eval.commands.compare import progress_bars
from eval.commands.errors import readable_errors
from eval.comparison.cells import promises_privacy
from eval.comparison.spec import Comparison
from eval.comparison.tables import in_bytes
from eval.configurations import located, shipped
from eval.console import say
from eval.published.agreement import Reproduction, hold_against, without_verdict, write_lines
from eval.published.figures import TABLES, Figure
from eval.published.plan import plan_encoding, plan_runs
from eval.published.reproduction import Adjustments, adjusted, run_available
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.runs.layout import make_private_folder
from pfedmoap.storage.atomic_files import read_sections


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Reproduce published tables; see ``--help``."""
    parser = command_parser(
        "Run the cells of a table of pFedMoAP's paper and print ours beside the "
        "published figures. Cells whose data or weights are missing say what to fetch; the rest "
        "goes on, and the next call continues."
    )
    parser.add_argument(
        "table", nargs="?", default="all", choices=["all", *TABLES], help="which table"
    )
    parser.add_argument("--dry-run", type=bool, default=False, help="only print the plan")
    parser.add_argument(
        "--gflops", type=float, default=100.0, help="sustained speed that the plan reckons with"
    )
    parser.add_argument("--data-root", type=str, default="data", help="folder with the data sets")
    parser.add_argument("--out", type=str, default="runs/paper", help="folder of the runs")
    parser.add_argument("--download", type=bool, default=False, help="fetch what torchvision can")
    parser.add_argument(
        "--official-divisions", type=bool, default=False, help="without CoOp's split files"
    )
    parser.add_argument(
        "--seeds", type=int | None, default=None, help="run only the first so many seeds"
    )
    parser.add_argument(
        "--override",
        type=str | None,
        default=None,
        help="YAML file of options laid over every cell's",
    )
    parser.add_argument("--quiet", type=bool, default=False, help="show no progress")
    options = parse(parser, arguments)
    changes = Adjustments(
        data_root=Path(options.data_root),
        download=options.download,
        official_divisions=options.official_divisions,
        base=None if options.override is None else read_sections(located(options.override)),
        seeds=options.seeds,
    )
    for name in TABLES if options.table == "all" else [options.table]:
        plan = adjusted(read_sections(shipped()[f"paper/table{name}.yaml"].path), changes)
        if options.dry_run:
            print_plan(name, plan, options.gflops)
        else:
            _reproduce(name, plan, Path(options.out) / f"table{name}", changes, not options.quiet)


def print_plan(name: str, plan: Comparison, gflops: float) -> None:
    """Print a table's cost on a machine that sustains so many GFLOP/s."""
    runs, encodings = plan_runs(plan, 1e9 * gflops), plan_encoding(plan, 1e9 * gflops)
    lines = [f"Table {name}: {TABLES[name].title}"]
    headings = ("cells", "rounds", "clients", "cohort", "down", "up", "a cell")
    for encoding in encodings:
        images = f"{encoding.images:,} images to encode, {_duration(encoding.seconds)}"
        lines += ["", f"{encoding.task}: {images}", _columns("", *headings)]
        for run in (run for run in runs if run.task == encoding.task):
            counts = (run.seeds, run.rounds, run.clients, run.cohort)
            sizes = (in_bytes(run.down_bytes), in_bytes(run.up_bytes))
            seconds = _duration(run.train_seconds)
            lines.append(_columns(run.method, *map(str, counts), *sizes, seconds))
    cells = sum(run.seeds for run in runs)
    encoded = sum(encoding.images for encoding in encodings)
    encode_seconds = sum(encoding.seconds for encoding in encodings)
    train_seconds = sum(run.seeds * run.train_seconds for run in runs)
    traffic = sum(run.seeds * (run.down_bytes + run.up_bytes) for run in runs)
    lines += [
        "",
        f"in all {cells} cells, {in_bytes(traffic)} of traffic, {encoded:,} images to encode",
        f"at {gflops:g} GFLOP/s: {_duration(encode_seconds)} of encoding, "
        f"{_duration(train_seconds)} of training",
        "",
    ]
    say("\n".join(lines))


def _columns(label: str, *cells: str) -> str:
    widths = (6, 7, 8, 7, 10, 10, 7)
    return f"{label:<24}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))


def _reproduce(
    name: str, plan: Comparison, out: Path, changes: Adjustments, progress: bool
) -> None:
    with progress_bars(len(plan.cells), shown=progress) as advance:
        missing = run_available(plan, out, advance)
    found = hold_against(TABLES[name], plan, out, missing)
    if changes.base is not None and {"backbone", "training", "rounds"} & set(changes.base):
        found = without_verdict(found, "overridden")
    private = promises_privacy(plan)
    place = make_private_folder(out) if private else out
    write_lines(place / "reproduction.csv", found.lines, private=private)
    _print_lines(name, found)


def _print_lines(name: str, found: Reproduction) -> None:
    text = [f"Table {name}: {TABLES[name].title} (accuracy in %, mean ± std over seeds)"]
    for column in dict.fromkeys(line.column for line in found.lines):
        text += ["", _row(column, "ours", "seeds", "published", "gap", "")]
        for line in (line for line in found.lines if line.column == column):
            gap = ""
            if line.ours is not None and line.published is not None:
                gap = f"{line.ours.mean - line.published.mean:+.2f}"
            figures = (_figure(line.ours), str(line.seeds), _figure(line.published))
            text.append(_row(line.method, *figures, gap, line.verdict))
    for reason, cells in found.reasons.items():
        text += ["", f"not run: {', '.join(cells)}", reason]
    say("\n".join([*text, ""]))


def _row(label: str, ours: str, seeds: str, published: str, gap: str, verdict: str) -> str:
    return f"{label:<24}{ours:>15}{seeds:>6}{published:>15}{gap:>8}  {verdict}".rstrip()


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    return f"{figure.mean:.2f}" + ("" if figure.std is None else f" ± {figure.std:.2f}")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
