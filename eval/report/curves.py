"""Pictures of what changes from round to round: accuracy and traffic."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

from eval.report.colours import DASHES, MARKERS
from eval.report.labels import End, label_ends
from eval.report.run_data import Evidence
from eval.report.structure import Table
from eval.report.style import (
    INK,
    PALETTE,
    PERCENT,
    RULE,
    Picture,
    grid,
    new_figure,
    picture,
    styled,
)
from eval.report.svg import tell

MOST_ARRAYS = 8  # with a colour each; where there are more, they are drawn by kind


@styled
def learning_curves(run: Evidence) -> Picture | None:
    """Draw accuracy by round; ``None`` where one round alone was evaluated."""
    records = [record for record in run.records if "evaluation" in record]
    if len(records) < 2:
        return None
    rounds = np.array([record["round"] for record in records])
    figure, (axes,) = new_figure(3.2)
    spans = [np.quantile(list(record["accuracy"].values()), [0.1, 0.9]) for record in records]
    low, high = np.transpose(spans)
    axes.fill_between(rounds, low, high, color=PALETTE[0], alpha=0.13, linewidth=0)
    ends = []
    lines = (
        ("mean", "personal, mean", 0),
        ("worst_decile", "personal, worst decile", 4),
        ("global_union", "global, union", 1),
        ("unseen_mean", "unseen clients, mean", 2),
    )
    named = {}
    for key, name, i in lines:
        values = [record["evaluation"].get(key) for record in records]
        if None in values:
            continue
        (line,) = axes.plot(
            rounds,
            values,
            color=PALETTE[i],
            linestyle=DASHES[i % len(DASHES)],
            marker=MARKERS[i],
            markersize=_dot(len(rounds)),
            clip_on=False,
        )
        points = [f"round {r}, {name}: {100 * v:.1f}%" for r, v in zip(rounds, values, strict=True)]
        tell(line, points)
        end = f"{name}: {100 * values[-1]:.1f}%"
        ends.append(End(values[-1], name, PALETTE[i], "", DASHES[i % len(DASHES)], tip=end))
        named[name] = values
    if run.zero_shot is not None:
        plain = float(np.mean(list(run.zero_shot.values())))
        line = axes.axhline(plain, color=PALETTE[6], linewidth=1, linestyle=(0, (4, 3)))
        tell(line, tip := f"zero-shot, mean: {100 * plain:.1f}%")
        ends.append(End(plain, "zero-shot, mean", PALETTE[6], dashes=(0, (4, 3)), tip=tip))
    axes.set_xlim(rounds[0], rounds[-1])
    bottom, top = axes.get_ylim()
    label_ends(axes, float(rounds[-1]), ends, 0.065 * (top - bottom))
    _round_axis(axes, rounds.tolist())
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set_ylabel("accuracy")
    grid(axes)
    rows = [
        (str(r), *(f"{100 * values[i]:.2f}%" for values in named.values()))
        for i, r in enumerate(rounds)
    ]
    return picture(
        figure,
        "Accuracy by round",
        "Accuracy of all clients after each round; the band holds the middle four fifths of the "
        "personal models, and tables only ever show the right end.",
        Table(("round", *named), rows),
    )


@styled
def traffic(run: Evidence) -> Picture | None:
    """Draw bytes by round and array, down above the line and up below it; ``None`` without any."""
    down, up = _by_array(run, "down_bytes"), _by_array(run, "up_bytes")
    if not any(values.any() for values in (*down.values(), *up.values())):
        return None
    rounds = np.array([record["round"] for record in run.records])
    unit, name = _unit(max(_peak(down), _peak(up)))
    names = sorted({*down, *up}, key=lambda array: -down.get(array, up.get(array)).sum())  # type: ignore[union-attr]  # one of the two has it
    colours = {array: PALETTE[i % len(PALETTE)] for i, array in enumerate(names)}
    figure, (axes,) = new_figure(2.9)
    for values, sign in ((down, 1.0), (up, -1.0)):
        floor = np.zeros(len(rounds))
        for array in names:
            if array not in values:
                continue
            height = sign * values[array] / unit
            label = array if sign > 0 or array not in down else None
            bars = axes.bar(
                rounds,
                height,
                bottom=floor,
                width=0.82,
                color=colours[array],
                alpha=1.0 if sign > 0 else 0.7,
                label=label,
                linewidth=0,
            )
            way = "down" if sign > 0 else "up"
            for bar, at, size in zip(bars, rounds, values[array], strict=True):
                tell(bar, f"round {at}, {array}, {way}: {size / unit:.3g} {name}")
            floor = floor + height
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda y, _: f"{abs(y):g}"))
    axes.set_ylabel(f"{name}:  up  |  down")
    axes.set_xlim(rounds[0] - 0.6, rounds[-1] + 0.6)
    _round_axis(axes, rounds.tolist())
    grid(axes)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=5, labelcolor=INK, handlelength=1)
    ways = [(way, array, sizes) for way, found in (("down", down), ("up", up))
            for array, sizes in found.items()]  # fmt: skip
    return picture(
        figure,
        "Traffic by round",
        "Payload of each round over all its clients by array name: above the line from the server, "
        "below it to the server.",
        Table(
            ("round", *(f"{array}, {way}, {name}" for way, array, _ in ways)),
            [
                (str(at), *(f"{sizes[i] / unit:.4g}" for *_, sizes in ways))
                for i, at in enumerate(rounds)
            ],
        ),
    )


def shown_arrays(run: Evidence) -> dict[str, str]:
    """What each array is called: its name, or the first part of it where there are many."""
    ways = ("down_bytes", "up_bytes")
    arrays = {n for r in run.records for each in r["traffic"] for way in ways for n in each[way]}
    return {name: name.split(".")[0] if len(arrays) > MOST_ARRAYS else name for name in arrays}


def _by_array(
    run: Evidence, direction: str
) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Bytes of each round by array, or by kind where there are many."""
    rounds, parts = [r["traffic"] for r in run.records], shown_arrays(run)
    found = {
        parts[name]: np.zeros(len(rounds))
        for name in sorted(parts)
        if any(name in each[direction] for r in rounds for each in r)
    }
    for row, r in enumerate(rounds):
        for each in r:
            for name, size in each[direction].items():
                found[parts[name]][row] += size
    return found


def _peak(values: Mapping[str, np.ndarray[tuple[int], np.dtype[np.float64]]]) -> float:
    return float(np.sum(list(values.values()), axis=0).max()) if values else 0.0


def _unit(peak: float) -> tuple[float, str]:
    for power, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if peak >= power:
            return float(power), name
    return 1.0, "bytes"


def _dot(count: int) -> float:
    return 4.0 if count <= 25 else 0.0


def _round_axis(axes: matplotlib.axes.Axes, rounds: Sequence[int] = ()) -> None:
    if 0 < len(rounds) <= 14:
        axes.set_xticks(rounds)
    else:
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, nbins=12))
    axes.set_xlabel("round")
    axes.spines["bottom"].set_color(RULE)
