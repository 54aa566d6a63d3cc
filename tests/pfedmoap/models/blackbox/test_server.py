"""The script that serves a model fails with a message, not with a traceback."""

import runpy
import sys

import pytest
import torch

from tests.helpers.places import ROOT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nonsense"], "knows no architecture 'nonsense'"),
        (["--model", "lm:x"], "is a language model"),
        (["--device", "nonsense"], "unknown device"),
        (["--device", "cpu", "--port", "99999"], "cannot listen"),
    ],
)
def test_the_script_fails_with_a_message(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["serve_clip.py", *arguments])
    with torch.enable_grad(), pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "scripts" / "serve_clip.py"), run_name="__main__")
    assert ended.value.code == 1
    assert message in capsys.readouterr().err
