"""What is written is whole, on the disk before it counts, and only for whom it is meant."""

import os
import stat

import pytest
import torch

from pfedmoap.errors import ConfigError, RunError
from pfedmoap.storage import atomic_files
from pfedmoap.storage.atomic_files import (
    append_line,
    read_arrays,
    read_json,
    read_sections,
    target_of_temporary,
    write_arrays,
    write_bytes,
    write_json,
)


@pytest.fixture
def order(monkeypatch):
    """What reaches the disk and takes its place, in order, with what a file holds by then."""
    seen = []
    sync, replace = os.fsync, os.replace

    def noted_sync(handle):
        found = os.fstat(handle)
        folder = stat.S_ISDIR(found.st_mode)
        seen.append(("folder" if folder else "file", None if folder else found.st_size))
        sync(handle)

    def noted_replace(source, target):
        seen.append(("replace", os.path.basename(target)))
        replace(source, target)

    monkeypatch.setattr(atomic_files.os, "fsync", noted_sync)
    monkeypatch.setattr(atomic_files.os, "replace", noted_replace)
    return seen


def test_what_a_killed_process_leaves_is_known_by_its_name(tmp_path, monkeypatch):
    left = []
    monkeypatch.setattr(atomic_files.os, "replace", lambda source, _: left.append(source))
    write_bytes(tmp_path / "state.json", b"")
    (name,) = os.listdir(tmp_path)
    assert left == [str(tmp_path / name)]
    assert target_of_temporary(name) == "state.json"
    for other in ("state.json", ".state.json", name.removesuffix("pfedmoap"), name[1:], name + "x"):
        assert target_of_temporary(other) is None


def permissions(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("content", [b"0123456789", [b"0123", memoryview(b"456789")]])
def test_the_content_is_on_the_disk_before_it_has_the_name_and_the_name_before_it_returns(
    content, order, tmp_path
):
    write_bytes(tmp_path / "state", content)
    assert order == [("file", 10), ("replace", "state"), ("folder", None)]
    assert (tmp_path / "state").read_bytes() == b"0123456789"
    assert os.listdir(tmp_path) == ["state"]


def test_a_line_is_on_the_disk_when_it_was_appended(order, tmp_path):
    append_line(tmp_path / "log", "first")
    append_line(tmp_path / "log", "second")
    assert order == [("file", 6), ("file", 13)]
    assert (tmp_path / "log").read_text() == "first\nsecond\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, MemoryError])
@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
def test_whatever_goes_wrong_leaves_the_old_content_and_nothing_else(
    step, error, tmp_path, monkeypatch
):
    (tmp_path / "state").write_text("old")

    def fails(*_):
        raise error

    monkeypatch.setattr(atomic_files.os, step, fails)
    with pytest.raises(error):
        write_bytes(tmp_path / "state", b"new")
    assert (tmp_path / "state").read_text() == "old"
    assert os.listdir(tmp_path) == ["state"]


def test_only_the_owner_may_read_what_is_private_whatever_the_mask(tmp_path):
    before = os.umask(0)
    try:
        write_bytes(tmp_path / "own" / "deep" / "state", b"", private=True)
        append_line(tmp_path / "own" / "log", "", private=True)
        write_bytes(tmp_path / "open" / "state", b"")
        append_line(tmp_path / "open" / "log", "")
    finally:
        os.umask(before)
    assert permissions(tmp_path / "own") == permissions(tmp_path / "own" / "deep") == 0o700
    assert permissions(tmp_path / "own" / "deep" / "state") == 0o600
    assert permissions(tmp_path / "own" / "log") == 0o600
    assert permissions(tmp_path / "open") == 0o777
    assert permissions(tmp_path / "open" / "state") == 0o644
    assert permissions(tmp_path / "open" / "log") == 0o666


def test_a_folder_that_is_there_keeps_its_permissions(tmp_path):
    tmp_path.chmod(0o755)
    write_bytes(tmp_path / "state", b"", private=True)
    assert permissions(tmp_path) == 0o755


def test_json_has_one_form_and_damage_is_one_error(tmp_path):
    write_json(tmp_path / "x.json", {"b": 1, "a": [2.5, None]})
    assert (tmp_path / "x.json").read_text() == (
        '{\n  "a": [\n    2.5,\n    null\n  ],\n  "b": 1\n}\n'
    )
    assert read_json(tmp_path / "x.json") == {"a": [2.5, None], "b": 1}
    for damage in (b"{", b"\xff", b"[" * 100_000):
        (tmp_path / "x.json").write_bytes(damage)
        with pytest.raises(RunError, match="is damaged"):
            read_json(tmp_path / "x.json")
    with pytest.raises(RunError, match="a run directory"):
        read_json(tmp_path / "missing.json")


def test_arrays_of_any_layout_come_back_and_other_files_are_refused(tmp_path):
    arrays = {"turned": torch.arange(6.0).view(2, 3).mT, "count": torch.tensor(3)}
    write_arrays(tmp_path / "x", {**arrays, "trained": torch.ones(2, requires_grad=True)})
    found = read_arrays(tmp_path / "x")
    assert torch.equal(found["turned"], arrays["turned"])
    assert torch.equal(found["count"], arrays["count"])
    assert torch.equal(found["trained"], torch.ones(2))
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes()[:-1])
    with pytest.raises(RunError, match="not a whole safetensors"):
        read_arrays(tmp_path / "x")
    with pytest.raises(RunError, match="does not exist"):
        read_arrays(tmp_path / "missing")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a list", "must hold sections with options, not list"),
        ("a: [", "is not valid YAML"),
        ("a: 2026-13-01", "is not valid YAML"),
        ("a: &x [*x, *x]\nb: " + "[" * 500, "is not valid YAML"),
    ],
)
def test_a_configuration_that_is_none_is_one_error(content, message, tmp_path):
    (tmp_path / "x.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_sections(tmp_path / "x.yaml")
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        read_sections(tmp_path / "missing.yaml")
