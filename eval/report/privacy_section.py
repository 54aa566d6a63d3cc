"""The section of a run's page that states its privacy; see `eval.officer.wording`."""

from eval.officer.facts import read_facts
from eval.officer.wording import statement
from eval.report.budgets import spent_budgets
from eval.report.run_data import Evidence
from eval.report.structure import Section

_SEALED = (
    "What the run promises and what was spent of it. `pfedmoap privacy statement RUN --out FILE.md "
    "--html FILE.html` writes this as a document that is sealed with hashes of the run, and as a "
    "page that the browser prints or saves as PDF."
)


def privacy_section(run: Evidence) -> Section | None:
    """Make the section; ``None`` for a run that promises no privacy."""
    if run.config["privacy"]["name"] == "none":
        return None
    shown = spent_budgets(run)
    chapters = statement(read_facts(run.folder))
    return Section("Privacy", [_SEALED], [shown] if shown else [], chapters=chapters)
