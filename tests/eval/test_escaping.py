"""Names that others chose do not act: on a terminal, in LaTeX, CSV or Markdown, or in logs."""

import csv
import io
import subprocess
import sys

import pytest

from eval.accuracy import ClientScore
from eval.client_csv import write_client_csv
from eval.console import PlainConsole, figures_table
from eval.escaping import for_csv, for_latex, for_markdown, for_terminal
from eval.progress import progress_bar
from tests.helpers.places import ROOT

HOSTILE = ["[red]x[/red]", "[/]", "[bold", ":smile:", "\x1b[31mred", "a\u202eb", "\x07", "\ud800"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_printed_as_it_is_in_text_cells_titles_and_bars(
    name: str, capsys: pytest.CaptureFixture[str]
):
    """Markup was taken away, or raised; escape sequences reached the terminal."""
    console = PlainConsole()
    console.print(f"run directory: {name}")
    console.print(figures_table({name: 0.5}, name))
    with progress_bar(name):
        pass
    shown = capsys.readouterr().out
    assert shown.count(for_terminal(name)) == 3
    assert not set(shown) & {"\x1b", "\u202e", "\x07", "\ud800"}


def test_characters_that_act_are_written_as_escapes_and_others_stay():
    assert for_terminal("\x1b\x9b\u2066\u2028\ud800\r") == r"\x1b\x9b\u2066\u2028\ud800\x0d"
    kept = "naïve 日本 \u200d שלום 👩\u200d🔬 +1"
    assert for_terminal(kept) == kept
    assert for_terminal("a\nb") == "a\nb"
    assert for_terminal("a\nb", lines=False) == r"a\x0ab"


def test_latex_prints_every_special_character():
    assert for_latex("a^b_c~d\\e&f%g$h#i{j}\nk") == (
        r"a\textasciicircum{}b\_c\textasciitilde{}d\textbackslash{}e\&f\%g\$h\#i\{j\} k"
    )


def test_a_markdown_cell_stays_one_cell():
    assert for_markdown("a|b`c\nd*") == r"a\|b\`c d\*"
    assert for_markdown("[x](javascript:1)") == r"\[x\](javascript:1)"


@pytest.mark.parametrize("name", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_csv_cell_is_no_formula(name: str, tmp_path):
    assert for_csv(name) == f"'{name}"
    score = ClientScore(**dict.fromkeys(ClientScore.__dataclass_fields__, 0) | {"domain": name})
    write_client_csv(tmp_path / "clients.csv", (score,))
    row = next(csv.DictReader(io.StringIO((tmp_path / "clients.csv").read_text())))
    assert not row["domain"].startswith(name[0])


def test_numbers_in_csv_stay_numbers():
    assert [for_csv(cell) for cell in (-1.5, "-1.5", "+3e-4", "-", "a=b", None)] == [
        *(-1.5, "-1.5", "+3e-4", "-", "a=b", None)
    ]


def test_a_warning_is_one_line_whatever_a_library_did_to_the_root_logger():
    """Opacus gives the root logger a handler, which wrote `11/26/2026 ...:WARNING:` before."""
    code = (
        "import logging\n"
        "logging.basicConfig(format='%(asctime)s:%(levelname)s:%(message)s')\n"
        "from eval.commands.errors import readable_errors\n"
        "from pfedmoap.errors import DataError\n"
        "@readable_errors\n"
        "def main():\n"
        "    for name in ('pfedmoap.data', 'privacy.checks', 'eval.x'):\n"
        "        logging.getLogger(name).warning('look at [red]%s', 'a\\x1b[31m')\n"
        "    logging.getLogger('pfedmoap').info('quiet')\n"
        "    raise DataError('bad \\x1b name')\n"
        "before = list(logging.getLogger().handlers)\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    assert logging.getLogger().handlers == before\n"
        "    assert logging.getLogger('pfedmoap').propagate\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        *[r"warning: look at [red]a\x1b[31m"] * 3,
        r"error: bad \x1b name",
    ]


def test_the_library_leaves_the_root_logger_alone():
    """Only commands show messages, by handlers of our own loggers."""
    for folder in ("pfedmoap", "privacy", "eval"):
        for file in (ROOT / folder).rglob("*.py"):
            assert "basicConfig" not in file.read_text(), file
            assert "logging.getLogger()" not in file.read_text(), file
