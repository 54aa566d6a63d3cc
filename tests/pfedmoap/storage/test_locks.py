"""One process at a time in a run's folder, and a full disk that says what to do."""

import errno
import os
import subprocess
import sys

import pytest

from pfedmoap.errors import RunError, StorageError
from pfedmoap.runs.folder import held
from pfedmoap.storage import atomic_files
from pfedmoap.storage.locks import is_held, locked, locked_folder
from pfedmoap.storage.own_files import HOLDER

HOLD = "import sys; from pfedmoap.runs.folder import held; from pathlib import Path\n"
HOLD += "with held(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read(1)"


@pytest.fixture
def other(tmp_path):
    """Another process in the folder; ended by the end of its input, or killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_says_who_is_in_the_folder_and_a_killed_one_frees_it(tmp_path, other):
    run = tmp_path / "run"
    with (
        pytest.raises(RunError, match=f"run is in use by process {other.pid} on .* since 20"),
        held(run),
    ):
        pass
    assert is_held(run) is True
    other.kill()
    other.wait()
    assert is_held(run) is False
    assert os.listdir(run) == [".run.lock.holder"]  # which the next one takes over
    with held(run):
        pass
    assert not run.exists()


def test_a_note_is_never_written_through_a_link(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / HOLDER).symlink_to(tmp_path / "mine")
    with pytest.raises(RunError, match="is a symbolic link"), locked_folder(tmp_path / "run"):
        pass
    (tmp_path / "lock.holder").symlink_to(tmp_path / "mine")
    with pytest.raises(RunError, match="is a symbolic link"), locked(tmp_path / "lock"):
        pass
    assert (tmp_path / "mine").read_text() == "mine"


def test_only_a_folder_can_be_known_to_be_free(tmp_path):
    assert is_held(tmp_path) is False
    (tmp_path / "file").write_text("")
    assert is_held(tmp_path / "file") is None
    assert is_held(tmp_path / "missing") is None


def test_a_foreign_folder_is_not_even_locked(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    before = os.stat(tmp_path).st_mtime_ns
    with pytest.raises(RunError, match="no run of this package"), held(tmp_path):
        pass
    assert os.stat(tmp_path).st_mtime_ns == before


def test_where_folders_cannot_be_locked_a_file_is(tmp_path, monkeypatch):
    monkeypatch.setattr("pfedmoap.storage.locks.locked_handle", lambda _: None)
    with (
        locked_folder(tmp_path / "run"),
        pytest.raises(RunError, match=f"in use by process {os.getpid()}"),
        locked_folder(tmp_path / "run"),
    ):
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_names_the_file_its_size_and_what_to_delete(tmp_path, monkeypatch, number):
    (tmp_path / "x.json").write_text("old")

    def full(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic_files.os, "fsync", full)
    for write in (
        lambda: atomic_files.write_bytes(tmp_path / "x.json", b"x" * 1234),
        lambda: atomic_files.append_line(tmp_path / "log", "y" * 1233),
    ):
        with pytest.raises(
            StorageError, match=r"no space to write .*1,234 bytes .*free there.*--features\.cache"
        ):
            write()
    assert (tmp_path / "x.json").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["log", "x.json"]
