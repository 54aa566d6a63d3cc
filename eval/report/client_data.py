"""What a reader can ask about one client: for the page's script, and in words without it.

Lists are bounded, so that a page of a thousand clients stays a page: at most `POINTS` rounds of a
curve, `CONFUSIONS` pairs of classes and `EXPERTS` givers a client, the most frequent ones.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.accuracy import ClientScore
from eval.console import percent
from eval.predictions import NO_CLASS, ClientPredictions
from eval.report.expert_plots import own_weights, served_matrix
from eval.report.run_data import Evidence
from eval.report.structure import Data, Table
from eval.report.style import thin
from pfedmoap.runs.log import Record

POINTS, CONFUSIONS, EXPERTS = 60, 120, 40
COLUMNS = 12  # rounds in the table without a script
NAMED = 3  # pairs of classes, or givers, of a client in words


def client_data(run: Evidence) -> Data:
    """What the page's script reads of a run.

    Args:
        run: The run; what it has not (a gate, experts, a domain, rounds before the last, or, of a
            federation whose data are at its sites, answers) is absent.

    Returns:
        Names of classes, the rounds of the curves with the mean over clients, and each client's
        figures, curve, confusion as (true, predicted, images), experts as (giver, times) and mean
        attention, as JSON.
    """
    records = _evaluated(run, POINTS)
    served, own, counts = served_matrix(run).astype(np.int64), own_weights(run), run.counts()
    answers = {one.client: one for one in run.predictions}
    rows = {client: row for row, client in enumerate(run.ids)}
    clients = []
    for one in run.scores:
        given, row = answers.get(one.client), rows.get(one.client)
        known = {} if row is None else {"images": _counted(counts[row])}
        if row is not None:
            givers = _counted(served[row])[:EXPERTS]
            known["experts"] = [[int(run.ids[giver]), times] for giver, times in givers]
        if given is not None:
            known["confusion"] = [[*pair, n] for pair, n in confusion(given)[:CONFUSIONS]]
        curve = [record["accuracy"].get(str(one.client)) for record in records]
        clients.append(
            {
                "id": int(one.client),
                "facts": _facts(run, one),
                "curve": [_known(value) for value in curve],
                **known,
                **({} if given is None or row is None else _attention(given, own[row])),
            }
        )
    return {
        "classes": run.class_names,
        "rounds": [record["round"] for record in records],
        "mean": [_known(record["evaluation"]["mean"]) for record in records],
        "clients": clients,
    }


def clients_in_words(run: Evidence) -> Table:
    """Each client's confusions, experts and attention in words."""
    served, names = served_matrix(run).astype(np.int64), run.class_names
    answers = {one.client: one for one in run.predictions}
    rows = []
    for row, client in enumerate(run.ids):
        givers = ", ".join(
            f"client {run.ids[giver]} ({n})" for giver, n in _counted(served[row])[:NAMED]
        )
        one = answers.get(client)
        if one is None:
            rows.append((str(client), "not known here", givers or "-", "-"))
            continue
        wrong = [(pair, n) for pair, n in confusion(one) if pair[0] != pair[1]][:NAMED]
        mistakes = ", ".join(f"{_name(names, t)} as {_name(names, p)} ({n})" for (t, p), n in wrong)
        gate = "-" if one.gate is None else f"{100 * one.gate.weights[:, 0].mean():.1f}%"
        rows.append((str(client), mistakes or "none", givers or "-", gate))
    return Table(
        (
            "client",
            "commonest mistakes (images)",
            "experts most often served (times)",
            "own attention",
        ),
        rows,
        folded="Every client in words",
        keys=[f"c{client}" for client in run.ids],
    )


def clients_by_round(run: Evidence) -> Table | None:
    """Each client's accuracy after some rounds; ``None`` where one alone was evaluated."""
    records = _evaluated(run, COLUMNS)
    if len(records) < 2:
        return None
    given = [[record["accuracy"].get(str(one.client)) for record in records] for one in run.scores]
    return Table(
        ("client", *(f"round {record['round']}, %" for record in records)),
        [
            (str(one.client), *map(percent, values))
            for one, values in zip(run.scores, given, strict=True)
        ],
        folded="Every client by round",
        keys=[f"c{one.client}" for one in run.scores],
    )


def confusion(one: ClientPredictions) -> list[tuple[tuple[int, int], int]]:
    """Count a personal model's answers, the most frequent first.

    Args:
        one: A client's answers.

    Returns:
        ((true class, predicted class), images); predicted is `NO_CLASS` where there is no answer.
    """
    pairs = zip(one.labels.tolist(), one.personal.predicted.tolist(), strict=True)
    return sorted(Counter(pairs).items(), key=lambda item: (-item[1], item[0]))


def _evaluated(run: Evidence, most: int) -> list[Record]:
    """The records of about so many evaluated rounds, the first and the last among them."""
    found = [record for record in run.records if "evaluation" in record]
    kept = {*thin(len(found), most), len(found) - 1} if found else set()
    return [found[i] for i in sorted(kept)]


def _facts(run: Evidence, one: ClientScore) -> list[list[str]]:
    """Names and values of a client's figures; those that are not known are left out."""
    plain = (run.zero_shot or {}).get(one.client)
    spent = run.epsilon.get(one.client)
    shares = (
        ("accuracy", one.accuracy),
        ("global model", one.global_accuracy),
        ("zero-shot", plain),
        ("macro-F1", one.macro_f1),
        ("calibration error", one.ece),
    )
    facts = [] if one.domain is None else [["domain", one.domain]]
    facts += [[name, f"{100 * value:.1f}%"] for name, value in shares if value is not None]
    facts += [["training images", str(one.train_images)], ["test images", str(one.test_images)]]
    facts += [] if spent is None else [["epsilon spent", f"{spent:.3g}"]]
    return [*facts, ["took part", "never: held out"]] if one.unseen else facts


def _attention(one: ClientPredictions, own: "np.ndarray[Any, np.dtype[np.float64]]") -> Data:
    if one.gate is None or one.gate.weights.shape[1] < 2:
        return {}
    mean = one.gate.weights.mean(0)
    return {
        "attention": [
            [None if i == 0 else int(one.gate.experts[i - 1]), round(100 * float(share), 2)]
            for i, share in enumerate(mean)
        ],
        "byClass": [
            [i, round(100 * float(own[i]), 2)] for i in np.flatnonzero(~np.isnan(own)).tolist()
        ],
    }


def _known(share: float | None) -> float | None:
    """A share in per cent; ``None`` where it is not known, or not a number."""
    return None if share is None or np.isnan(share) else round(100 * share, 2)


def _counted(counts: "np.ndarray[Any, np.dtype[np.int64]]") -> list[list[int]]:
    """Positions with their counts, the largest first, without zeros."""
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda i: (-int(counts[i]), i))
    return [[i, int(counts[i])] for i in order]


def _name(names: Sequence[str], label: int) -> str:
    return "no answer" if label == NO_CLASS else names[label]
