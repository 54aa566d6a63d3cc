"""The console command finds its commands and loads none too early."""

import subprocess
import sys
from pathlib import Path

import pytest

import pfedmoap
from eval.cli import COMMANDS, main, usage
from eval.commands.bench import PARTS
from eval.commands.errors import in_words, readable_errors
from pfedmoap.storage.atomic_files import write_bytes
from tests.helpers.places import ROOT

SCRIPTS = {file.stem for file in (ROOT / "scripts").glob("*.py")}
FIRST = {"check-method": ["zero_shot"], "bench": ["startup"], "privacy": ["verify"]}
"""The first words of commands whose options depend on them."""
MODULES = {
    file.stem for file in (ROOT / "eval/commands").glob("*.py") if "\ndef main(" in file.read_text()
}


def test_help_names_every_command_and_loads_none(capsys: pytest.CaptureFixture[str]):
    main(["--help"])
    assert capsys.readouterr().out.strip() == usage()
    code = "import sys, eval.cli as c; c.main([]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_every_script_is_a_command_and_every_command_a_script():
    """But for `scripts/privacy.py`, which would hide the package of its name.

    Each part of `bench` has a script of its own besides.
    """
    commands = {name.replace("-", "_") for name in COMMANDS}
    benchmarks = {f"bench_{part}" for part in PARTS} - {"bench_all"}
    assert commands == MODULES == SCRIPTS - benchmarks | {"privacy"}
    assert benchmarks <= SCRIPTS
    for name in SCRIPTS - benchmarks:
        assert f"from eval.commands.{name} import main" in (ROOT / f"scripts/{name}.py").read_text()
    for name in benchmarks:
        part = name.removeprefix("bench_")
        assert f'main(["{part}", *sys.argv[1:]])' in (ROOT / f"scripts/{name}.py").read_text()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself_and_knows_no_other_option(
    name: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert not ended.value.code
    assert capsys.readouterr().out.startswith(f"usage: pfedmoap {name} ")
    first = FIRST.get(name, [])
    with pytest.raises(SystemExit) as ended:
        main([name.replace("-", "_"), *first, "--no-such-thing", "1"])
    assert ended.value.code == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: there is no option --no-such-thing; ")
    assert shown.count("\n") == 1


def test_version(capsys: pytest.CaptureFixture[str]):
    main(["--version"])
    assert capsys.readouterr().out == f"pfedmoap {pfedmoap.__version__}\n"


@pytest.mark.parametrize(("wrong", "near"), [("trian", "train"), ("evaluate-bakbone", "evaluate")])
def test_unknown_commands_are_refused(wrong: str, near: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as error:
        main([wrong])
    assert error.value.code == 2
    shown = capsys.readouterr().err
    assert f"no command {wrong}; nearest: " in shown
    assert near in shown


def test_a_command_gets_its_options(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as error:
        main(["evaluate", "/nowhere"])
    assert error.value.code == 1
    assert "does not exist" in capsys.readouterr().err


def test_errors_of_the_system_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def refuse(**where: object) -> None:
        raise OSError(30, "Read-only file system", "a temporary name")

    @readable_errors
    def command() -> None:
        write_bytes(tmp_path / "x.html", b"")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(SystemExit):
        command()
    said = capsys.readouterr().err
    assert said == (
        f"error: {tmp_path}/x.html: read-only file system; nothing can be written there: name "
        "another place\n"
    )
    assert in_words(OSError("just words")) == "just words"
    assert in_words(OSError(28, "No space left on device", "a")).endswith("more room")
    assert in_words(ConnectionResetError(104, "Connection reset")) == "connection reset"
