"""Trying a wheel: what it declares is all that is there, and a command that fails is named."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from eval.cli import COMMANDS
from tools.try_wheel import TRIES, Try, installed_for, required, run_all


def test_what_a_wheel_requires_is_read_from_it(tmp_path):
    with ZipFile(tmp_path / "a.whl", "w") as archive:
        lines = ["Name: a", "Requires-Dist: jinja2>=3", "Requires-Dist: rich; extra == 'more'"]
        archive.writestr("a-1.dist-info/METADATA", "\n".join([*lines, "", "Requires-Dist: no"]))
    assert [each.name for each in required(tmp_path / "a.whl")] == ["jinja2", "rich"]


def test_packages_lead_to_theirs_and_extras_count_where_they_are_asked_for():
    def names(*lines: str) -> set[str]:
        found = installed_for(map(Requirement, lines))
        return {name.lower().replace("_", "-") for name in found}

    assert names("jinja2") == {"jinja2", "markupsafe"}
    assert names("jinja2; extra == 'more'", "jinja2; python_version < '3'") == set()
    assert "typeshed-client" not in names("jsonargparse")
    assert "typeshed-client" in names("jsonargparse[signatures]")
    with pytest.raises(PackageNotFoundError):
        names("no-package-of-this-name")


@pytest.fixture
def stub(tmp_path) -> Path:
    """An environment whose programs make the file that they are told, or fail."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("python", "pfedmoap"):
        (folder / name).write_text(
            '#!/bin/sh\necho "$0 $1 $PYTHONPATH" >> ../log\n'
            'case "$1" in make) touch "$2";; fail) echo why >&2; exit 3;; esac\n'
        )
        (folder / name).chmod(0o755)
    (tmp_path / "work").mkdir()
    return folder / "python"


def test_commands_run_without_the_checkout_and_have_to_make_their_files(stub, tmp_path, capsys):
    work = tmp_path / "work"
    run_all(stub, work, [Try("make a.txt", "a.txt"), Try("other")])
    assert "ok  make a.txt\nok  other\n" in capsys.readouterr().out
    log = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[:2] for line in log[-2:]] == [
        [str(stub.with_name("pfedmoap")), "make"],
        [str(stub.with_name("pfedmoap")), "other"],
    ]
    assert all(line.endswith(" ") for line in log[-2:]), "PYTHONPATH leads to the checkout"
    with pytest.raises(SystemExit, match=r"make b\.txt made no c\.txt"):
        run_all(stub, work, [Try("make b.txt", "c.txt")])
    with pytest.raises(SystemExit, match="fail ended with 3: why"):
        run_all(stub, work, [Try("fail"), Try("make d.txt", "d.txt")])
    assert not (work / "d.txt").exists()


def test_commands_that_are_tried_exist():
    tried = {each.words.split()[0] for each in TRIES} - {"--version"}
    assert tried <= set(COMMANDS)
    assert tried >= {"train", "evaluate", "report", "export", "predict", "compare", "bench"}
