"""``doctor``: a page, JSON, and an exit code."""

import json

import pytest

from eval.commands import doctor
from eval.doctor import backbone


def test_what_is_wrong_decides_the_exit_code(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(backbone, "SPEED_SECONDS", 0.0)
    words = ["--device", "cpu", "--features.cache", str(tmp_path)]
    doctor.main(words)
    assert "nothing is wrong" in capsys.readouterr().out
    monkeypatch.setattr(backbone, "EXPECTED_RIGHT", 0)
    with pytest.raises(SystemExit) as ended:
        doctor.main([*words, "--json"])
    assert ended.value.code == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["sound"]
    assert [f["name"] for f in found["findings"] if f["status"] == "wrong"] == ["zero-shot"]
    with pytest.raises(SystemExit) as ended:
        doctor.main(["--backbone.model", "no-such-model", "--device", "cpu"])
    assert ended.value.code == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "WRONG" in shown
    assert "wrong: 1 of" in shown
