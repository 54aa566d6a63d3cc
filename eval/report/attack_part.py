"""The page of a table of attacks."""

import numpy as np
import yaml

from eval.attacks.catalogue import NONE
from eval.attacks.rows import AttackTable
from eval.attacks.spec import usual_share
from eval.attacks.tables import (
    all_rows,
    lost_by_defence,
    points,
    recommended_rows,
    words,
)
from eval.report.page import Part, Picture, Section, Table, render
from eval.report.style import MARKERS, PALETTE, grid, new_figure, picture, styled
from eval.report.svg import tell

_READING = (
    "Points of honest accuracy lost: the mean over honest clients, each against itself in the "
    "federation without attackers and without a defence, same seeds. Negative numbers are gains."
)
_AGAINST = (
    "A hostile client has its own data, what the server sends it, and the protocol; hostile "
    "clients share what they were sent. Backdoor: share of the honest clients' test images of "
    "other classes that are taken for the target class once the trigger is on them. Victims "
    "served: share of honest clients that were sent a hostile client's prompt in any round. "
    "Reported: uploads that the server named in its metrics; recall is the share of the hostile "
    "ones that it named, precision the share of hostile ones among those it named."
)


def attack_page(table: AttackTable, title: str = "Hostile clients") -> str:
    """Make one self-contained page of a table of attacks.

    Args:
        table: The table.
        title: The page's title.

    Returns:
        HTML that loads nothing from anywhere.
    """
    parts = [_method_part(table, method) for method in table.methods]
    return render(title, parts)


def _method_part(table: AttackTable, method: str) -> Part:
    usual = usual_share(table.shares)
    shares = [
        Section(
            f"{share:.0%} attackers",
            [_READING],
            tables=[Table(*lost_by_defence(table, method, share))],
        )
        for share in table.shares
    ]
    chosen = Section(
        f"Recommended: {table.recommended}",
        [_AGAINST],
        [_lost_picture(table, method, usual)],
        [Table(*recommended_rows(table, method))],
    )
    headings, rows = all_rows(table)
    own = [row[1:] for row in rows if row[0] == method]
    everything = Section(
        "All figures", tables=[Table(headings[1:], own, folded=f"All {len(own)} rows")]
    )
    return Part(
        title=method,
        subtitle=f"{len(table.attacks)} attacks against {len(table.defences)} defences; seeds "
        f"{', '.join(map(str, table.plan.get('seeds', [0])))}.",
        tiles=_tiles(table, method, usual),
        sections=[chosen, *shares, everything],
        configuration=yaml.safe_dump(dict(table.plan), sort_keys=False),
    )


def _tiles(table: AttackTable, method: str, usual: float) -> list[tuple[str, str, str]]:
    best, bare = table.recommended, table.defences[0]
    calm = table.row(method, NONE, 0.0, best)
    tiles = [("Without attackers", f"{points(calm.lost)}", f"points lost with {best}")]
    usually = (f"Worst at {usual:.0%}", best, f" with {best}")
    for name, defence, using in (usually, (f"Without defence, {usual:.0%}", bare, "")):
        worst = table.most_lost(method, usual, defence)
        tiles.append((name, points(worst.lost), f"points lost to {worst.attack}{using}"))
    broken = table.most_lost(method, max(table.shares), best)
    why = f"points lost to {broken.attack} with {best}"
    return [*tiles, (f"Worst at {max(table.shares):.0%}", points(broken.lost), why)]


@styled
def _lost_picture(table: AttackTable, method: str, usual: float) -> Picture:
    """Points lost by attack: without a defence, and with the recommended one at each share."""
    figure, (axes,) = new_figure(1.0 + 0.3 * len(table.attacks))
    heights = np.arange(len(table.attacks))[::-1]
    best, bare = table.recommended, table.defences[0]
    series = [(bare, usual), *((best, share) for share in table.shares)]
    columns = []
    for index, (defence, share) in enumerate(series):
        lost = [table.row(method, attack, share, defence).lost for attack in table.attacks]
        columns.append([points(value) for value in lost])
        drawn = axes.scatter(
            lost,
            heights + 0.12 * (1.5 - index),
            s=30,
            color=PALETTE[index % len(PALETTE)],
            marker=MARKERS[index % len(MARKERS)],
            label=f"{defence}, {share:.0%}",
        )
        tips = [
            f"{_short(attack)}, {defence}, {share:.0%} attackers: {text} points lost"
            for attack, text in zip(table.attacks, columns[-1], strict=True)
        ]
        tell(drawn, tips)
    axes.set_yticks(heights, [_short(name) for name in table.attacks])
    axes.set(xlabel="points of honest accuracy lost")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(series), handletextpad=0.1)
    grid(axes, "x")
    values = Table(
        ("attack", *(f"{defence}, {share:.0%}" for defence, share in series)),
        [
            (_short(attack), *(column[i] for column in columns))
            for i, attack in enumerate(table.attacks)
        ],
    )
    return picture(figure, f"Points lost to each attack on {method}", _READING, values)


def _short(attack: str) -> str:
    return words(attack).partition(":")[0].replace("_", " ")
