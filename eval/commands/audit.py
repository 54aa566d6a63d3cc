"""``audit``: try to refute the privacy of a method, and of deliberately broken mechanisms."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from eval.audit_record import failures, is_record, record
from eval.auditing import AuditOptions, Trial, prepare
from eval.choices import schema
from eval.commands.errors import readable_errors
from eval.configurations import shipped
from eval.console import console, say
from eval.experiment import ExperimentLoader
from eval.report.audit_part import audit_page, judgement, summary_rows
from eval.report.page import BEGINNING
from pfedmoap.errors import ConfigError, RunError
from pfedmoap.runs.layout import PRIVATE, make_private_folder
from pfedmoap.storage.atomic_files import write_bytes, write_json
from pfedmoap.storage.own_files import refuse_foreign_file
from privacy.auditing.audit_table import Verdict

_WIDTH = 160  # of the table where the terminal is narrower, or there is none


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Audit; see ``--help``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    run = Path(given.pop(0)) if given and not given[0].startswith("-") else None
    out = "runs/audit/audit.json" if run is None else str(run / PRIVATE / "audit.json")
    config, options = schema().parse(
        [
            "--config",
            str(shipped()["audit.yaml"].path if run is None else _options_of(run)),
            *given,
        ],
        "Audit differential privacy: `audit` the defaults or any options, or `audit RUN` the "
        "options of a run. Canaries bound epsilon from below, from uploads and from every step; "
        "one example's pull on a step and the noise itself are measured; broken mechanisms must "
        "be found out.",
        {
            "canaries": (20, "image canaries of each client, half of which are trained on"),
            "gradient_canaries": (50, "gradient canaries of each client, likewise"),
            "members": (10, "ordinary examples of each client"),
            "audit_clients": (20, "most clients to audit"),
            "audit_rounds": (3 if run is None else 2, "most rounds to audit"),
            "audit_seed": (0, "seed of canaries, members and the inclusion of canaries"),
            "out": (out, "where the record goes; the page is written beside it"),
        },
    )
    record_file, page = places_of(Path(options.pop("out")))
    trial = prepare(
        config,
        AuditOptions(
            canaries=options["canaries"],
            gradient_canaries=options["gradient_canaries"],
            members=options["members"],
            clients=options["audit_clients"],
            rounds=options["audit_rounds"],
            seed=options["audit_seed"],
        ),
        ExperimentLoader(),
    )
    verdicts = []
    for verdict in trial.verdicts():
        console.print(f"{verdict.name}: {judgement(verdict)}", highlight=False)
        verdicts.append(verdict)
    ideal = trial.ideal()
    _show(trial, verdicts, ideal)
    if run is not None and record_file.parent == run / PRIVATE:
        make_private_folder(run)
    write_json(record_file, record(trial, verdicts, ideal))
    write_bytes(page, audit_page(trial, verdicts, ideal).encode())
    say(f"record: {record_file}, page: {page}")
    if wrong := failures(verdicts):
        console.print(f"the audit failed for: {', '.join(wrong)}")
        sys.exit(2)


def places_of(record_file: Path) -> tuple[Path, Path]:
    """Where record and page go; refused, before any work, where they would replace other files."""
    if record_file.suffix.lower() != ".json":
        raise ConfigError(
            f"--out {record_file}: expected a name that ends in .json, such as "
            f"{record_file.with_suffix('.json')}; the page is written beside it, as .html"
        )
    page = record_file.with_suffix(".html")
    refuse_foreign_file(record_file, is_record, "a record of an audit")
    refuse_foreign_file(page, BEGINNING, "the page of an audit")
    return record_file, page


def _options_of(run: Path) -> Path:
    known = run / "config.json"
    if not known.exists():
        raise RunError(
            f"{known} does not exist: give a folder that is a run directory of `train`, or options "
            "alone"
        )
    return known


def _show(trial: Trial, verdicts: Sequence[Verdict], ideal: tuple[float, float] | None) -> None:
    audit, claim = trial.audit, trial.claim
    images, gradients = (
        len(audit.members) * count for count in (audit.canaries, audit.gradient_canaries)
    )
    table = Table(
        title=f"{trial.config.name('method')} on {trial.data}, {audit.rounds} of "
        f"{trial.planned.rounds} rounds, delta {claim.delta:g}; {images} image and {gradients} "
        "gradient canaries, one run each; epsilon refuted below, with 95 % confidence",
        title_justify="left",
    )
    headings, rows = summary_rows(verdicts)
    for heading in headings:
        left = heading in ("mechanism", "noise", "verdict")
        table.add_column(heading, justify="left" if left else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=max(_WIDTH, console.width)).print(table)
    if ideal is not None:
        console.print(
            f"ideal gradient canaries would refute {ideal[0]:.2f} by the bound of Steinke et al. "
            f"(2023) and {ideal[1]:.2f} by the f-DP bound",
            highlight=False,
        )
