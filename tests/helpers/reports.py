"""Runs, comparisons and audits of any size for the pages' tests, without training them."""

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np

from eval.choices import schema
from eval.comparison.paired import Difference
from eval.report.audit_part import audit_page
from eval.report.comparison_section import contender_sections
from eval.report.contenders import Contender, method_data
from eval.report.families import families
from eval.report.run_data import Evidence
from eval.report.structure import Part, Table
from pfedmoap.wire.messages import ClientId
from privacy.auditing.audit_table import Verdict
from privacy.auditing.bounds import LowerBound, View
from privacy.auditing.membership import Separation
from privacy.auditing.one_run import Guesses

HOSTILE = '</script><img src=x onerror=alert(1)> "&<!-- $x_{2}$ --> id="tell:{}" \u202e\ud800'
"""A name that would end a script, begin an element, and be read as mathematics or as our marks."""

NAMES = (
    "w" * 200,
    "a name of many words " * 12,
    "\u05e9\u05dc\u05d5\u05dd",  # from right to left
    "\U0001f469\u200d\U0001f52c",  # several characters for one picture
)
"""Names that a page has to make room for."""


def with_clients(run: Evidence, count: int) -> Evidence:
    """The same run with so many clients, copied from its own."""
    few = len(run.scores)
    order = [i % few for i in range(count)]
    accuracies = [
        record | {"accuracy": {str(n): record["accuracy"][str(i)] for n, i in enumerate(order)}}
        for record in run.records
    ]
    return replace(
        run,
        task=dict(run.task)
        | {"clients": [run.task["clients"][i] | {"client": n} for n, i in enumerate(order)]},
        records=accuracies,
        scores=tuple(replace(run.scores[i], client=ClientId(n)) for n, i in enumerate(order)),
        predictions=tuple(
            replace(run.predictions[i], client=ClientId(n)) for n, i in enumerate(order)
        ),
        zero_shot={ClientId(n): 0.3 for n in range(count)},
        prompts={ClientId(n): run.prompts[ClientId(i)] + 0.01 * n for n, i in enumerate(order)},
    )


def contender(name: str, mean: float = 0.2, **given: object) -> Contender:
    """A method with two rounds and four clients."""
    figures = {
        "curves": [([1, 2], [mean / 2, mean])],
        "clients": [mean - 0.1, mean, mean, mean + 0.1],
        "difference": None,
        "bytes_per_round": 10.0,
        "epsilon": None,
    }
    return Contender(name, **(figures | given))


@cache
def comparison_part(count: int, first: str = "method 0") -> Part:
    """One task of a comparison of so many methods in all families, one of them far below."""
    rng = np.random.default_rng(0)
    gap = Difference(0.01, -0.02, 0.04, "seeds", 3, 0.6, 0.4)
    methods = [
        contender(
            first if i == 0 else f"method {i}",
            0.05 if i == 1 else 0.8 + 0.1 * float(rng.random()),
            difference=None if i == 0 else gap,
            bytes_per_round=1024.0 * (1 + i),
            family=families()[i % len(families())],
        )
        for i in range(count)
    ]
    rows = [(one.name, f"{100 * one.mean:.1f} \u00b1 1.0") for one in methods]
    keys = [f"m{i}" for i in range(count)]
    tables = [Table(("method", "accuracy %"), rows, "The last round.", keys=keys)]
    sections = contender_sections(methods, methods[0].name, tables)
    return Part("digits", f"{count} methods", (), sections, "base: {}", method_data(methods))


def small_audit_page() -> str:
    """A page of an audit with a sound and a broken mechanism."""
    verdicts = []
    for name, sound, p_value in (("joint", True, 0.4), ("without noise", False, 1e-9)):
        bounds = [LowerBound(m, 0.5, 0.95, Guesses(40, 20, 12)) for m in ("steinke", "f-dp")]
        views = tuple(
            View(f"{kind} canaries", sees, 40, *bounds, Separation(0.6, 0.02), p_value)
            for kind, sees in (("image", "uploads"), ("gradient", "uploads"), ("gradient", "steps"))
        )
        verdicts.append(Verdict(name, sound, 8.0, views, Separation(0.5, 0.01), None, None))
    sections = {"method": {"name": "promptfl"}, "privacy": {"name": "dpsgd", "epsilon": 8.0}}
    trial = SimpleNamespace(
        config=schema().resolve(sections),
        data="digits",
        stand_in=None,
        claim=SimpleNamespace(epsilon=8.0, delta=1e-5),
        audit=SimpleNamespace(rounds=2, members=[1, 2]),
        planned=SimpleNamespace(rounds=3),
    )
    return audit_page(trial, verdicts, (3.0, 4.0))
