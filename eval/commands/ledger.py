"""``ledger``: show what each client has spent of its privacy budget, by run and in total."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from eval.commands.errors import readable_errors
from eval.console import console
from eval.ledgers import Statement, find_ledgers, read_statements
from pfedmoap.config.exact_options import command_parser, parse
from privacy.accounting.epsilon import check_budget


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Show ledgers; see ``--help``."""
    parser = command_parser(
        "Show what each client has spent of its privacy budget: by each run alone, by "
        "all runs that share the ledgers together, and what is left. Nothing is changed."
    )
    parser.add_argument("path", type=str, help="run directory, or folder of --privacy.ledgers")
    parser.add_argument(
        "--epsilon",
        type=float | None,
        help="budget to hold the totals against; else the last run's",
    )
    parser.add_argument(
        "--delta", type=float | None, help="delta of the totals; else the last run's"
    )
    options = parse(parser, arguments)
    check_budget(
        1.0 if options.epsilon is None else options.epsilon,
        1e-5 if options.delta is None else options.delta,
    )
    place = find_ledgers(Path(options.path))
    statements = read_statements(place.folder, options.epsilon, options.delta)
    console.print_whole(_table(statements, place.run, f"ledgers in {place.folder}"))
    totals = [statement.total for statement in statements]
    shown = ", ".join(sorted({f"{statement.delta:g}" for statement in statements}))
    everybody = all(statement.client < 0 for statement in statements)
    who = "one account for all clients" if everybody else f"{len(statements)} clients"
    console.print(
        f"{who}; together the runs cost at most epsilon {max(totals):.4g} for any of them, at "
        f"delta {shown}"
    )


def _table(statements: Sequence[Statement], run: str | None, title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("client", "run", "mechanism"):
        table.add_column(heading)
    for heading in ("noise", "rounds", "charges", "epsilon", "all runs", "budget", "left"):
        table.add_column(heading, justify="right")
    for statement in statements:
        client = "all" if statement.client < 0 else str(statement.client)
        for number, account in enumerate(statement.accounts):
            last = number == len(statement.accounts) - 1
            noise = account.mechanism.get("noise_multiplier")
            table.add_row(
                client if number == 0 else "",
                account.run[:8] + (" *" if account.run == run else ""),
                str(account.mechanism["name"]),
                "-" if noise is None else f"{noise:.4g}",
                str(len({charge.round for charge in account.charges})),
                str(len(account.charges)),
                f"{statement.spent[number]:.4g}",
                *(
                    (f"{statement.total:.4g}", f"{statement.epsilon:g}", _left(statement))
                    if last
                    else ("", "", "")
                ),
            )
    return table


def _left(statement: Statement) -> str:
    """What is left, in four digits; what calibration left over is nothing."""
    return "0" if statement.left < 1e-4 * statement.epsilon else f"{statement.left:.4g}"
