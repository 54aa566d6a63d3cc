"""Run a table of attacks case by case; what is finished is kept, and can be taken up again."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eval.attacks.cells import AttackLab
from eval.attacks.outcome import Outcome
from eval.attacks.spec import Case, Plan
from eval.experiment import ExperimentLoader
from pfedmoap.errors import RunError
from pfedmoap.storage.atomic_files import append_line, parse_json

CASES = "cases.jsonl"


def run_plan(
    plan: Plan,
    out: Path,
    loader: ExperimentLoader,
    *,
    resume: bool = False,
    advance: Callable[[Case, int], None] = lambda *_: None,
) -> dict[Case, Outcome]:
    """Run every case that is not finished.

    Args:
        plan: The table.
        out: A folder that is there; finished cases are appended to its file `CASES`.
        loader: Loads data and backbone.
        resume: Take finished cases of that file. They are known by their whole configuration,
            so that the plan may have changed; that the code is the same, nobody checks.
        advance: Called with each case and how many are done before it.

    Raises:
        RunError: The file is there and ``resume`` is false, or it is damaged.
    """
    file = out / CASES
    if file.exists() and not resume:
        raise RunError(f"{file} holds finished cases: give --resume, or another --out")
    known = _finished(file) if file.exists() else {}
    lab = AttackLab(plan.target, loader)
    found: dict[Case, Outcome] = {}
    for number, case in enumerate(plan.cases()):
        advance(case, number)
        key = key_of(case, plan.target)
        if key in known:
            found[case] = Outcome.from_json(known[key])
            continue
        found[case] = lab.run(case)
        known[key] = {"key": key, **found[case].to_json()}  # labels may share a configuration
        append_line(file, json.dumps(known[key], sort_keys=True))
    return found


def key_of(case: Case, target: int) -> str:
    """Name a case by all that its outcome depends on, but for the code."""
    sections = {name: own for name, own in case.config.sections.items() if name != "features"}
    parts = [sections, case.attack, case.share, case.seed, target]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _finished(file: Path) -> dict[str, Mapping[str, Any]]:
    try:
        lines = [parse_json(line.encode()) for line in file.read_text().splitlines()]
        return {line["key"]: line for line in lines}
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{file} is damaged ({error}): delete it, or give another --out") from error
