"""The section of a run's page that states its privacy; see `eval.officer.wording`."""

from eval.officer.facts import read_facts
from eval.officer.wording import statement
from eval.report.budgets import spent_budgets
from eval.report.run_data import Evidence
from eval.report.structure import Section, Table


def privacy_section(run: Evidence) -> Section | None:
    """Make the section; ``None`` for a run that promises no privacy."""
    if run.config["privacy"]["name"] == "none":
        return None
    text, tables = [], []
    for chapter in statement(read_facts(run.folder)):
        paragraphs = [*chapter.paragraphs]
        if chapter.points:
            paragraphs[-1] += f" {'; '.join(chapter.points)}."
        paragraphs[0] = f"{chapter.title}. {paragraphs[0]}"
        text += paragraphs
        if chapter.table is not None:
            made = chapter.table
            tables.append(Table(made.headings, made.rows, folded=f"{chapter.title}: the table"))
    text.append(
        "`pfedmoap privacy statement RUN --out FILE.md` writes this as a document that is sealed "
        "with hashes of the run."
    )
    shown = spent_budgets(run)
    return Section("Privacy", text, [shown] if shown else [], tables)
