"""The part of the page about one run."""

from collections import Counter

import numpy as np
import yaml

from eval.accuracy import summarise
from eval.comparison.tables import in_bytes
from eval.console import percent
from eval.holdout import validation_note
from eval.report.client_data import client_data, clients_by_round, clients_in_words
from eval.report.clients import accuracy_by_client, accuracy_by_group
from eval.report.curves import learning_curves, shown_arrays, traffic
from eval.report.distribution import label_distribution
from eval.report.expert_plots import (
    attention_by_rank,
    gate_attention,
    related_share,
    served_experts,
)
from eval.report.privacy_section import privacy_section
from eval.report.prompt_map import prompt_map
from eval.report.reliability import reliability_diagrams
from eval.report.run_data import Evidence
from eval.report.structure import Part, Picture, Section, Table
from pfedmoap.methods.pfedmoap.served_experts import EXPERTS, OWNERS


def run_part(run: Evidence) -> Part:
    """Make the part about one run."""
    made = [
        _accuracy(run),
        _one_client(run),
        _section("Learning curves", learning_curves(run)),
        _section("Who holds what", label_distribution(run)),
        _mixture(run),
        _section("Map of prompts", prompt_map(run)),
        _section("Calibration", reliability_diagrams(run)),
        _traffic(run),
        privacy_section(run),
    ]
    method, partition = run.config["method"]["name"], run.config["partition"]["name"]
    count = len(run.task["clients"])
    split = f"{count} sites" if run.at_sites else f"{partition} split over {count} clients"
    return Part(
        title=f"{run.name}: {method} on {run.task['data']}",
        subtitle=f"{split}, after "
        f"round {run.records[-1]['round']}; backbone "
        f"{run.config['backbone']['model']}.",
        tiles=_tiles(run),
        sections=[section for section in made if section is not None],
        configuration=yaml.safe_dump(run.config, sort_keys=True, allow_unicode=True),
        data=client_data(run),
    )


_AT_SITES = (
    "The data and the personal models of this run are at its sites. These figures are what the "
    "sites sent after the last round; what they did not send is not here: single answers, "
    "calibration by confidence, attention and prompts."
)


def _tiles(run: Evidence) -> list[tuple[str, str, str]]:
    figures = summarise(run.scores)
    tiles = [
        (
            "Personalised accuracy",
            f"{100 * figures.mean:.1f}%",
            f"unweighted mean over {figures.clients} clients",
        ),
        (
            "Worst decile",
            f"{100 * figures.worst_decile:.1f}%",
            "mean of the worst tenth of clients",
        ),
        (
            "Spread over clients",
            f"{100 * figures.std:.1f} pt",
            f"standard deviation; Jain's index {figures.jain:.3f}",
        ),
        ("Macro-F1", f"{100 * figures.macro_f1:.1f}%", "mean over clients"),
    ]
    if figures.global_union is not None:
        why = "one model for all, union of test sets"
        tiles.append(("Global model", f"{100 * figures.global_union:.1f}%", why))
    if run.zero_shot is not None:
        plain = float(np.mean(list(run.zero_shot.values())))
        tiles.append(
            ("Zero-shot", f"{100 * plain:.1f}%", "hand-written prompts, mean over clients")
        )
    if figures.unseen_mean is not None:
        why = "clients that never took part"
        tiles.append(("Unseen clients", f"{100 * figures.unseen_mean:.1f}%", why))
    why = "mean over clients of the personal models' ECE"
    tiles.append(("Calibration error", f"{100 * figures.ece:.1f}%", why))
    return tiles


def _accuracy(run: Evidence) -> Section:
    pictures = [accuracy_by_client(run), accuracy_by_group(run)]
    headings = ["client", "domain", "training images", "test images", "accuracy %"]
    rows = [
        (
            f"{one.client}{' (unseen)' if one.unseen else ''}",
            one.domain or "-",
            str(one.train_images),
            str(one.test_images),
            percent(one.accuracy),
            percent(one.macro_f1),
            percent(one.ece),
            percent(one.global_accuracy),
            percent((run.zero_shot or {}).get(one.client)),
        )
        for one in run.scores
    ]
    headings += ["macro-F1 %", "ECE %", "global %", "zero-shot %"]
    keys = [f"c{one.client}" for one in run.scores]
    table = Table(headings, rows, folded=f"All {len(rows)} clients as a table", keys=keys)
    shown = [one for one in pictures if one]
    note = validation_note(run.config)
    text = [_AT_SITES] if run.at_sites else [*([note] if note else []), *_changed(run)]
    return Section("Accuracy by client", text, shown, [table])


def _one_client(run: Evidence) -> Section:
    """What the reader can ask for client by client, and the same in words without a script."""
    text = (
        "A client's own learning curve, the answers of its personal model by true class, the "
        "experts that it was served and its attention."
    )
    tables = [one for one in (clients_in_words(run), clients_by_round(run)) if one is not None]
    return Section("One client", [text], tables=tables, explorer="clients")


def _changed(run: Evidence) -> list[str]:
    """Make a warning if predictions differ from those of the run's last round."""
    logged = [record["evaluation"]["mean"] for record in run.records if "evaluation" in record]
    now = summarise(run.scores).mean
    if not logged or abs(logged[-1] - now) < 1e-3:
        return []
    return [
        f"Caution: the run logged {100 * logged[-1]:.1f}% after its last round, but its models now "
        f"reach {100 * now:.1f}%: the backbone, the data or the code have changed since."
    ]


def _section(title: str, *pictures: Picture | None) -> Section | None:
    known = [one for one in pictures if one is not None]
    return Section(title, pictures=known) if known else None


def _mixture(run: Evidence) -> Section | None:
    pictures = [served_experts(run), gate_attention(run), attention_by_rank(run)]
    known = [one for one in pictures if one is not None]
    if not known:
        return None
    share = related_share(run)
    text = []
    if share is not None:
        kind = "domain" if run.task["domains"] else "commonest class"
        text.append(
            f"{100 * share[0]:.0f}% of the experts served came from a client with the same "
            f"{kind}; a random choice would have given {100 * share[1]:.0f}%."
        )
    gates = [one.gate.weights for one in run.predictions if one.gate is not None]
    if gates and max(weights.shape[1] for weights in gates) > 1:
        own = float(np.mean([weights[:, 0].mean() for weights in gates]))
        uneven = float(np.mean([np.abs(w - 1 / w.shape[1]).mean() for w in gates]))
        verdict = "hardly tells prompts apart" if uneven < 0.01 else "does tell prompts apart"
        even = float(np.mean([1 / weights.shape[1] for weights in gates]))
        text.append(
            f"On average the gate gives {100 * own:.1f}% of its attention to the client's own "
            f"prompt, where an even share would be {100 * even:.1f}%; a weight differs from even "
            f"by {100 * uneven:.2g} points on average, so the gate {verdict}."
        )
    return Section("What the mixture does", text, known)


def _traffic(run: Evidence) -> Section | None:
    shown = traffic(run)
    if shown is None:
        return None
    rows, parts = [], shown_arrays(run)
    for direction, label in (("down_bytes", "down"), ("up_bytes", "up")):
        sizes: dict[str, list[int]] = {}
        for record in run.records:
            for each in record["traffic"]:
                message: Counter[str] = Counter()
                for name, size in each[direction].items():
                    message[parts[name]] += size
                for name, size in message.items():
                    sizes.setdefault(name, []).append(size)
        for name, all_sizes in sorted(sizes.items(), key=lambda item: -sum(item[1])):
            common = Counter(all_sizes).most_common(1)[0][0]
            rows.append(
                (
                    f"{name}, {label}",
                    _formula(run, name, common),
                    in_bytes(common),
                    str(len(all_sizes)),
                    in_bytes(sum(all_sizes)),
                )
            )
    headings = ("array", "numbers x bytes", "a message", "messages", "all rounds")
    note = "Payload of the tensors; a transport adds its framing. A message is the commonest size."
    return Section("Traffic", pictures=[shown], tables=[Table(headings, rows, note)])


def _formula(run: Evidence, name: str, size: int) -> str:
    """Return the formula of the size of arrays whose form is known."""
    length = run.config["method"].get("context_length")
    width = 2 if run.config["rounds"].get("wire") == "float16" else 4
    prompt = next(iter(run.prompts.values()), None)
    if length and prompt is not None and size:
        whole = len(prompt) * width
        one = f"{length} vectors x {len(prompt) // length} x {width} B"
        if name.endswith("context") and size == whole:
            return one
        if name == EXPERTS and size % whole == 0:
            return f"{size // whole} experts x {one}"
    if name == OWNERS:
        return f"{size // 8} ids x 8 B"
    return f"{size} B"
