"""`scripts/disclosure.py` says how much of a protected model its auxiliary shows."""

import runpy
import sys

import pytest

from tests.helpers.places import ROOT

OPTIONS = (
    "--data",
    "digits",
    "--partition",
    "iid",
    "--partition.clients",
    "2",
    "--sampling.shots",
    "2",
    "--sampling.server_shots",
    "2",
)


def disclosure(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["disclosure.py", *OPTIONS, *options])
    runpy.run_path(str(ROOT / "scripts" / "disclosure.py"), run_name="__main__")


def test_without_distillation_everything_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    disclosure(monkeypatch, "--method", "fedsp", "--method.distillation_steps", "0")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [row.split("│")[1].strip() for row in rows if "blocks" in row] == [
        "text blocks",
        "image blocks",
    ]
    assert all(row.count("1.000") == 2 for row in rows)


def test_other_methods_have_no_auxiliary(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        disclosure(monkeypatch, "--method", "promptfl")
    assert "only FedSP has an auxiliary" in capsys.readouterr().err
