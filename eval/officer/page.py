"""The statement as a page, which a browser prints or saves as PDF."""

from pathlib import Path

from eval.officer.document import divided
from eval.officer.facts import read_facts
from eval.officer.wording import statement
from eval.report.page import Part, render
from eval.report.structure import Chapter, Section, Table

_SEALED = (
    "The Markdown file that was written together with this page says the same and bears this seal: "
    "`pfedmoap privacy verify FILE.md RUN` holds it against the run. A page or a print is for "
    "reading, and shows nothing by itself."
)


def statement_page(document: str, folder: Path) -> str:
    """Make the page of a sealed statement.

    Args:
        document: The statement, as `eval.officer.seal.sealed_statement` made it.
        folder: The run that it speaks of.

    Returns:
        HTML that loads nothing from anywhere.

    Raises:
        RunError: It is no private run with a complete round, or no statement.
    """
    _, seal = divided(document.encode())
    chapters = [_section(one) for one in statement(read_facts(folder))]
    signed = "no signature" if seal["key"] is None else f"signed with the key {seal['key']}"
    rows = [
        ("the run (all files below)", seal["run_sha256"]),
        ("the statement's text", seal["text_sha256"]),
        *seal["files"].items(),
    ]
    hashes = Chapter(
        "",
        [_SEALED, f"Made at {seal['at']} by pfedmoap {seal['written_by']}; {signed}."],
        table=Table(("what", "SHA-256"), rows),
    )
    return render(
        f"Privacy of {seal['run']}",
        [
            Part(
                title="Statement of differential privacy",
                subtitle=f"Run: {seal['run']}. SHA-256 of the run: {seal['run_sha256']}.",
                tiles=(),
                sections=[*chapters, _section(hashes, "Seal")],
            )
        ],
    )


def _section(chapter: Chapter, title: str = "") -> Section:
    tables = () if chapter.table is None else (chapter.table,)
    return Section(title or chapter.title, chapter.paragraphs, tables=tables, points=chapter.points)
