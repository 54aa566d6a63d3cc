"""The console command finds its commands and loads none too early."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

from eval.cli import COMMANDS, main, usage


def test_help_names_every_command_and_loads_none(capsys: pytest.CaptureFixture[str]):
    main(["--help"])
    assert capsys.readouterr().out.strip() == usage()
    code = "import sys, eval.cli as c; c.main([]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.parametrize("name", sorted(set(COMMANDS)))
def test_every_command_exists(name: str):
    assert find_spec(f"eval.commands.{name.replace('-', '_')}") is not None


def test_unknown_commands_are_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as error:
        main(["trian"])
    assert error.value.code == 2
    assert "no command 'trian'" in capsys.readouterr().err


def test_a_command_gets_its_options(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as error:
        main(["evaluate", "/nowhere"])
    assert error.value.code == 1
    assert "does not exist" in capsys.readouterr().err
