"""``privacy``: plan a run's privacy, state what a run has spent of it, and verify a statement."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from eval.choices import schema
from eval.commands.errors import readable_errors
from eval.commands.nested import Part, run_part
from eval.console import console, say
from eval.deployment.federation_file import FILE, RUN
from eval.experiment import ExperimentLoader
from eval.officer.document import BEGINNING
from eval.officer.page import statement_page
from eval.officer.plan import Plan, make_plan, shown_rounds
from eval.officer.seal import sealed_statement, verify
from eval.report.page import BEGINNING as PAGE_BEGINNING
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.errors import RunError
from pfedmoap.storage.atomic_files import write_bytes
from pfedmoap.storage.own_files import refuse_foreign_file
from pfedmoap.storage.signing import Signer

_ABOUT = (
    "For privacy officers: plan a run's privacy, state what a run has spent of it, and verify a "
    "statement. Statements are Markdown, sealed with hashes of the run and signed with the "
    "operator's key where there is one."
)


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Plan, state or verify; see ``--help``."""
    run_part(_PARTS, arguments, _ABOUT, "action")


def _plan(arguments: Sequence[str]) -> None:
    given = list(arguments)
    file = ["--config", given.pop(0)] if given and not given[0].startswith("-") else []
    config, _ = schema().parse(
        [*file, *given],
        "Say what a configuration will spend of privacy and how much noise it adds: a file, and "
        "options of `train`. Nothing is encoded, trained or charged.",
    )
    plan = make_plan(config, ExperimentLoader())
    for line in _lines(plan):
        say(line)
    table = Table(title="Epsilon over a client's rounds", title_justify="left")
    for heading in ("rounds", plan.noise.unit, "epsilon"):
        table.add_column(heading, justify="right")
    for round in shown_rounds(plan.rounds):
        over = " (over budget: it sits out)" if plan.rounds[round - 1] > plan.budget else ""
        units = round * plan.units_a_round
        table.add_row(str(round), str(units), f"{plan.rounds[round - 1]:.4g}{over}")
    console.print_whole(table)
    console.print_whole(_clients(plan))


def _lines(plan: Plan) -> list[str]:
    told, noise = plan.statement, plan.noise
    norm = (
        ""
        if noise.norm is None
        else (
            f"; its expected norm over {noise.numbers} numbers is {noise.norm:.4g}, "
            f"{noise.norm / noise.clip:.4g} times the clipping norm"
        )
    )
    divided = (
        ""
        if noise.divisor == 1
        else (
            f"Divided by {noise.divisor:g}, the noise has a norm of "
            + ("unknown size" if noise.norm is None else f"{noise.norm / noise.divisor:.4g}")
            + f", beside a mean of vectors that are each at most {noise.clip:g} long."
        )
    )
    return [
        line
        for line in (
            f"Protected: {told['unit']} ({told['neighbours']}). Private: {told['private']}.",
            f"Budget: epsilon {plan.budget:g} at delta {plan.delta:g}; {noise.unit} "
            f"a round: {plan.units_a_round}. Rounds of a client: at most {told['rounds_planned']}, "
            f"because {told['rounds_planned_because']}.",
            f"Noise: multiplier {noise.multiplier:.5g}; on {noise.what}, clipped to "
            f"{noise.clip:g}, a standard deviation of {noise.std:.4g} in each number{norm}.",
            divided,
            *(f"CAUTION: {caveat}" for caveat in told["caveats"]),  # type: ignore[attr-defined]
        )
        if line
    ]


def _clients(plan: Plan) -> Table:
    table = Table(title="By client", title_justify="left")
    for heading in ("clients", "drawn", "take part", plan.noise.unit, "epsilon"):
        table.add_column(heading, justify="left" if heading == "clients" else "right")
    for each in plan.clients:
        secret = each.clients == (-1,)
        who = "all, in secret cohorts" if secret else ", ".join(map(str, each.clients))
        table.add_row(
            who, str(each.drawn), str(each.rounds), str(each.units), f"{each.epsilon:.4g}"
        )
    return table


def _statement(arguments: Sequence[str]) -> None:
    parser = command_parser(
        "Write a private run's statement: what is protected, what each client and all have spent, "
        "how the noise was made, what is not covered, versions, and the audit's result."
    )
    parser.add_argument("run", help="folder of the run, or of the federation")
    parser.add_argument("--out", type=str | None, help="Markdown file; else it is printed")
    parser.add_argument(
        "--html", type=str | None, help="HTML page of the same, to print or to save as PDF"
    )
    parser.add_argument(
        "--key", type=str | None, help="operator's signing key, made if missing; else the usual one"
    )
    options = parse(parser, arguments)
    run, out = _run_of(options.run), None if options.out is None else Path(options.out)
    page = None if options.html is None else Path(options.html)
    if out is not None:
        refuse_foreign_file(out, BEGINNING, "a statement of privacy")
    if page is not None:
        refuse_foreign_file(page, PAGE_BEGINNING, "a page of this package")
    document = sealed_statement(run, _signer(run, options.key))
    if page is not None:
        write_bytes(page, statement_page(document, run).encode())
    if out is None:
        sys.stdout.write(document)
        return
    write_bytes(out, document.encode())
    shown = "" if page is None else f"; to print: {page}"
    say(f"statement: {out}{shown}")


def _run_of(folder: str) -> Path:
    """The run in the folder of a federation, or the folder itself."""
    given = Path(folder)
    return given / RUN if (given / FILE).exists() else given


def _signer(run: Path, key: str | None) -> Signer | None:
    """The given key's; else that of the federation's server or the operator, if there is one."""
    if key is not None:
        return Signer.kept_in(Path(key))
    deployed = (run.parent / FILE).exists()
    usual = run.parent / ("server.key" if deployed else "operator.key")
    return Signer.kept_in(usual) if usual.exists() else None


def _verify(arguments: Sequence[str]) -> None:
    parser = command_parser("Hold a statement of privacy against the run that it speaks of.")
    parser.add_argument("statement", help="the Markdown file")
    parser.add_argument("run", help="folder of the run, or of the federation")
    parser.add_argument("--public_key", type=str | None, help="whose signature it must bear")
    options = parse(parser, arguments)
    try:
        content = Path(options.statement).read_bytes()
    except OSError as error:
        raise RunError(f"{options.statement} cannot be read: {error.strerror}") from error
    found = verify(content, _run_of(options.run), options.public_key)
    for remark in found.remarks:
        say(f"note: {remark}")
    if not found.faults:
        say(f"{options.statement} holds for {options.run}")
        return
    for fault in found.faults:
        say(f"does not hold: {fault}")
    sys.exit(2)


_PARTS = {
    "plan": Part("of a CONFIG.yaml and options of `train`: noise, steps, epsilon", _plan),
    "statement": Part("of a RUN: what it promises, and what was spent of it", _statement),
    "verify": Part("FILE.md against a RUN; ends with 2 where it does not hold", _verify),
}
