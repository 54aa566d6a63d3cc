"""Random faults end as they should, and the script notices one that does not."""

from pathlib import Path

import pytest

from eval import faults
from eval.commands import faults as command
from eval.faults import KINDS, FaultWorld, Table
from eval.marked import marks
from pfedmoap.runs import checkpoint


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> FaultWorld:
    return FaultWorld(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_is_survived_or_refused(world, kind):
    for seed in range(2):
        end, what = world.one(kind, seed)
        assert end != "failure", what


def test_damage_that_nobody_notices_is_a_failure(world, monkeypatch):
    real = checkpoint.read_state
    monkeypatch.setattr(checkpoint, "read_state", lambda path, owner, _: real(path, owner, None))

    def flip(run: Path, kind: str, draw: object) -> str:
        file = max((run / "server").iterdir())
        content = bytearray(file.read_bytes())
        content[-2] ^= 1
        file.write_bytes(content)
        return "a flipped bit"

    monkeypatch.setattr(faults, "damage", flip)
    assert world.one("bit flip", 0) == ("failure", "bit flip 0: a flipped bit: another end")


def test_the_table_goes_into_its_place_and_a_failure_is_an_error(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    begin, end = marks(command.PLACE)
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    table = Table({("kill", "same"): 3, ("swap", "failure"): 1}, ("swap 4: another end",))
    monkeypatch.setattr(command, "inject", lambda *_: table)
    with pytest.raises(SystemExit):
        command.main(["--count", "4", "--page", str(page)])
    text = page.read_text()
    assert text.startswith("before\n<!-- faults -->\n4 faults, seed 0:\n")
    assert "| kill | 3 | 0 | 0 | 0 |" in text
    assert "- swap 4: another end" in text
    assert text.endswith(f"{end}\nafter\n")
    assert "old" not in text
