"""The cache's entries are told from other files, checked, and removed without harm to readers."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pfedmoap.data.feature_cache import contents, prune, to_prune
from pfedmoap.data.feature_store import ARRAY, DESCRIPTION, EntryWriter, read_entry

DAY = 24 * 3600
NOW = 1_000 * DAY
KEYS = ("a" * 64, "b" * 64, "c" * 64)


def store(folder: Path, key: str, rows: int = 50) -> Path:
    place = folder / key[:32]
    with EntryWriter(place, key, (rows, 1), {"dataset": key[0], "kind": "image"}) as writer:
        values = np.ones((rows, 4), np.float32)
        writer.write(np.arange(rows), np.zeros(rows, np.int64), values)
        writer.publish()
    return place


@pytest.fixture
def cache(tmp_path) -> Path:
    """Three entries, made 30, 20 and 10 days ago and read 3, 2 and 1 days ago."""
    for number, key in enumerate(KEYS):
        place = store(tmp_path, key)
        for file in place.iterdir():
            os.utime(file, (0, NOW - (30 - 10 * number) * DAY))
        os.utime(place, (0, NOW - (3 - number) * DAY))
    return tmp_path


def chosen(cache: Path, **rules) -> str:
    return "".join(entry.name[0] for entry in to_prune(contents(cache), now=NOW, **rules))


def test_entries_are_listed_by_their_last_use_and_reading_is_a_use(cache):
    assert [entry.about["dataset"] for entry in contents(cache).entries] == ["c", "b", "a"]
    assert read_entry(cache / KEYS[0][:32], KEYS[0], 50) is not None
    assert contents(cache).entries[0].name == KEYS[0][:32]
    assert contents(cache).size_bytes == sum(
        file.stat().st_size for file in cache.rglob("*") if file.is_file()
    )
    assert contents(cache / "absent").entries == ()


def test_rules_choose_by_age_use_size_and_damage(cache):
    assert chosen(cache) == ""
    assert chosen(cache, unused_days=1.5) == "ba"
    assert chosen(cache, older_days=25) == "a"
    size = contents(cache).entries[0].size_bytes
    assert chosen(cache, to_bytes=2 * size + 10) == "a"
    assert chosen(cache, to_bytes=0) == "cba"
    assert chosen(cache, older_days=25, to_bytes=2 * size + 10) == "a"
    (cache / KEYS[1][:32] / ARRAY).write_bytes(b"broken")
    assert chosen(cache, damaged=True) == "b"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda place: (place / ARRAY).unlink(),
        lambda place: (place / DESCRIPTION).write_text("{}"),
        lambda place: (place / DESCRIPTION).write_text("[]"),
        lambda place: (place / ARRAY).write_bytes((place / ARRAY).read_bytes()[:-9]),
        lambda place: place.rename(place.with_name("d" * 32)),
    ],
)
def test_damage_is_found(cache, spoil):
    place = cache / KEYS[0][:32]
    assert all(entry.problem() is None for entry in contents(cache).entries)
    spoil(place)
    assert sum(entry.problem() is not None for entry in contents(cache).entries) == 1


def test_pruning_leaves_what_is_not_ours(cache, tmp_path):
    outside = tmp_path.parent / "outside"
    outside.mkdir()
    (outside / ARRAY).write_text("mine")
    (outside / DESCRIPTION).write_text(json.dumps({"key": "f" * 64}))
    (cache / ("f" * 32)).symlink_to(outside)
    (cache / "thesis").mkdir()
    (cache / "thesis" / ARRAY).write_text("mine")
    (cache / "notes.txt").write_text("mine")
    mixed = store(cache, "e" * 64)
    (mixed / "notes.txt").write_text("mine")
    held = contents(cache)
    assert set(held.foreign) == {"f" * 32, "thesis", "notes.txt", "e" * 32}
    assert len(prune(held, to_prune(held, to_bytes=0))) == 3
    assert {path.name for path in cache.iterdir()} == set(held.foreign)
    assert (outside / ARRAY).read_text() == (mixed / "notes.txt").read_text() == "mine"


def test_pruning_is_safe_beside_readers_and_writers(cache):
    opened = read_entry(cache / KEYS[0][:32], KEYS[0], 50)
    writer = EntryWriter(cache / ("9" * 32), "9" * 64, (2, 1), {})
    with writer:
        writer.write(np.arange(2), np.zeros(2, np.int64), np.ones((2, 4), np.float32))
        os.utime(writer.unfinished, (0, 3600))
        killed = cache / f"unfinished-{'0' * 32}"
        killed.mkdir()
        os.utime(killed, (0, 3600))
        held = contents(cache)
        assert len(held.unfinished) == 2
        read_entry(cache / KEYS[1][:32], KEYS[1], 50)  # since the cache was looked into
        removed = prune(held, held.entries)
        assert {entry.name[0] for entry in removed} == {"a", "c"}
        assert writer.publish() is not None
    assert opened is not None
    assert float(opened.sum()) == 200
    assert {entry.name[0] for entry in contents(cache).entries} == {"b", "9"}
    assert not killed.exists()
