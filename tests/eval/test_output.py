"""Output goes where nobody reads it: a closed stream, a pipe whose reader has left."""

import os
import shlex
import subprocess
import sys

import pytest

from tests.helpers.places import ROOT

HELP = "from eval.cli import main; main([])"
RAN = """
from eval.commands.errors import readable_errors
@readable_errors
def main():
    print("words" * 10000)
main()
"""


@pytest.mark.parametrize("code", [HELP, RAN])
def test_a_reader_that_has_left_ends_a_command_without_a_word(code: str):
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-c", code]
    ended = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, cwd=ROOT, text=True)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_streams_that_are_closed_end_no_command(tmp_path):
    for code, closed in ((HELP, ">&-"), (RAN, "<&-"), (RAN, "<&- >&- 2>&-")):
        words = shlex.join([sys.executable, "-c", code])
        line = f"( {words}; echo $? > {tmp_path}/status ) {closed}"
        shown = subprocess.run(["bash", "-c", line], stderr=subprocess.PIPE, cwd=ROOT)
        assert (tmp_path / "status").read_text() == "0\n"
        assert shown.stderr == b""
