"""The table of attacks in Markdown, for the documentation and beside the page."""

from collections.abc import Sequence

from eval.attacks.catalogue import ATTACKS, NONE
from eval.attacks.rows import AttackTable, Row
from eval.attacks.spec import usual_share
from eval.escaping import for_markdown

Cells = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Headings and rows of texts."""


def markdown(table: AttackTable) -> str:
    """All that the documentation shows: a pair of tables for each method."""
    parts: list[str] = []
    for method in table.methods:
        parts += [f"### {for_markdown(method)}", ""]
        middle = usual_share(table.shares)
        parts += [f"Points of honest accuracy lost with {_percent(middle)} attackers:", ""]
        parts += [*_markdown(*lost_by_defence(table, method, middle)), ""]
        parts += [f"Defence {for_markdown(table.recommended)}, beside that of no defence:", ""]
        parts += [*_markdown(*recommended_rows(table, method)), ""]
    return "\n".join(parts)


def lost_by_defence(table: AttackTable, method: str, share: float) -> Cells:
    """Points lost, a row for each attack and a column for each defence that was run."""
    defences = table.defences_at(share)
    rows = []
    for attack, at in [(NONE, 0.0), *((attack, share) for attack in table.attacks)]:
        lost = [table.row(method, attack, at, defence).lost for defence in defences]
        rows.append((words(attack), *(points(value) for value in lost)))
    return ("attack", *defences), rows


def recommended_rows(table: AttackTable, method: str) -> Cells:
    """The recommended defence at every share, and beside it none where both are of interest."""
    best, bare, middle = table.recommended, table.defences[0], usual_share(table.shares)
    at = _percent(middle)
    headings = (
        "attack",
        *(f"lost at {_percent(share)}" for share in table.shares),
        f"worst client, {at}",
        f"global, {at}",
        f"backdoor, {at} (no defence)",
        f"victims served, {at} (no defence)",
        f"reported: recall / precision, {at}",
    )
    rows = []
    for attack in table.attacks:
        row, other = (table.row(method, attack, middle, defence) for defence in (best, bare))
        rows.append(
            (
                words(attack),
                *(points(table.row(method, attack, s, best).lost) for s in table.shares),
                _percent(row.worst),
                _percent(row.shared),
                f"{_percent(row.fooled)} ({_percent(other.fooled)})",
                f"{_percent(row.served)} ({_percent(other.served)})",
                found(row),
            )
        )
    return headings, rows


def all_rows(table: AttackTable) -> Cells:
    """Every row with all its figures."""
    headings = (
        *("method", "attack", "attackers", "defence", "honest", "lost", "lost, worst seed"),
        *("worst client", "global", "backdoor", "victims served", "recall / precision"),
    )
    rows = [
        (
            row.method,
            row.attack,
            _percent(row.share),
            row.defence,
            _percent(row.honest),
            points(row.lost),
            points(row.lost_most),
            _percent(row.worst),
            _percent(row.shared),
            _percent(row.fooled),
            _percent(row.served),
            found(row),
        )
        for row in table.rows
    ]
    return headings, rows


def words(attack: str) -> str:
    """An attack's name, and what it does."""
    return "no attack" if attack == NONE else f"{attack}: {ATTACKS[attack].does}"


def found(row: Row) -> str:
    """Recall and precision of what the server reported."""
    return f"{_percent(row.recall)} / {_percent(row.precision)}"


def points(value: float) -> str:
    """Points with a sign; a loss below a twentieth of a point has none."""
    rounded = round(value, 1)
    return f"{rounded:+.1f}" if rounded else "0.0"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(map(for_markdown, headings)) + " |"]
    lines.append("|---|" + "---:|" * (len(headings) - 1))
    return lines + ["| " + " | ".join(map(for_markdown, row)) + " |" for row in rows]
