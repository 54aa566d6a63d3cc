"""``cache``: what it prints, its exit codes, and what it removes."""

import json

import numpy as np
import pytest

from eval.commands import cache as command
from eval.commands.cache import size_in_bytes
from pfedmoap.data.feature_store import ARRAY, EntryWriter
from pfedmoap.errors import ConfigError

KEY = "a" * 64


@pytest.fixture
def folder(tmp_path):
    with EntryWriter(tmp_path / KEY[:32], KEY, (3, 1), {"dataset": "digits"}) as writer:
        writer.write(np.arange(3), np.zeros(3, np.int64), np.ones((3, 4), np.float32))
        writer.publish()
    return tmp_path


def run(folder, capsys, *words):
    command.main([*words, "--features.cache", str(folder)])
    return capsys.readouterr().out


def test_it_lists_verifies_and_prunes(folder, capsys):
    assert "digits" in run(folder, capsys)
    listed = json.loads(run(folder, capsys, "list", "--json"))
    assert [entry["name"] for entry in listed["entries"]] == [KEY[:32]]
    assert listed["bytes"] == listed["entries"][0]["bytes"] > 48
    assert "whole" in run(folder, capsys, "verify")
    assert "would remove 1 of 1 entries" in run(
        folder, capsys, "prune", "--to_size", "0", "--dry_run"
    )
    assert "removed 0 of 1" in run(folder, capsys, "prune", "--unused_days", "1", "--damaged")
    assert json.loads(run(folder, capsys, "prune", "--to_size", "0", "--json"))["removed"] == [
        KEY[:32]
    ]
    assert "0 entries, 0 B" in run(folder, capsys)


def test_damage_ends_with_exit_code_1_and_can_be_pruned(folder, capsys):
    (folder / KEY[:32] / ARRAY).write_bytes(b"broken")
    for words in (["verify"], ["verify", "--json"]):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run(folder, capsys, *words)
        assert ended.value.code == 1
    assert json.loads(capsys.readouterr().out)["entries"][0]["problem"] == (
        "it is no stored array with its description"
    )
    run(folder, capsys, "prune", "--damaged")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["prune"], "say what may go"),
        (["prun"], "no action 'prun'; nearest: prune"),
        (["prune", "--to_size", "big"], "a size such as 10GB, got 'big'"),
        (["prune", "--to_size", "nan"], "a size such as 10GB"),
    ],
)
def test_mistakes_are_named_and_nothing_is_removed(folder, capsys, words, why):
    with pytest.raises(SystemExit) as ended:
        run(folder, capsys, *words)
    assert ended.value.code == 1
    assert why in " ".join(capsys.readouterr().err.split())
    assert (folder / KEY[:32] / ARRAY).exists()


def test_sizes():
    assert [size_in_bytes(t) for t in ("0", "12", "2kB", "1.5 MiB", "1g")] == [
        0,
        12,
        2048,
        1572864,
        2**30,
    ]
    with pytest.raises(ConfigError):
        size_in_bytes("-1")
