"""Only own files are deleted or overwritten, with and without folders that are opened."""

import os

import pytest

from pfedmoap.errors import RunError
from pfedmoap.storage import own_files
from pfedmoap.storage.own_files import (
    contents_in_words,
    holds_nothing,
    real_folders,
    refuse_foreign_file,
    remove_empty_folder,
    remove_files,
)


@pytest.fixture(params=[True, False], ids=["by handle", "by path"], autouse=True)
def by_handle(request, monkeypatch):
    monkeypatch.setattr(own_files, "BY_HANDLE", request.param and own_files.BY_HANDLE)


def ours(name):
    return name.startswith("own")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A run's folder with own files and others, and a link to somebody else's, where we are."""
    for folder in ("run/deep", "run/empty", "mine"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "own").write_text("x")
    (tmp_path / "run/empty/own").unlink()
    monkeypatch.chdir(tmp_path / "mine")  # a folder that is absent must not become this one
    (tmp_path / "run/deep/other").write_text("x")
    (tmp_path / "run/deep/own-folder").mkdir()
    (tmp_path / "run/deep/own-link").symlink_to(tmp_path / "mine/own")
    (tmp_path / "run/link").symlink_to(tmp_path / "mine")
    return tmp_path


def test_own_regular_files_go_and_nothing_else(tree):
    remove_files(tree / "run", ("deep",), ours)
    assert sorted(os.listdir(tree / "run/deep")) == ["other", "own-folder", "own-link"]
    remove_files(tree / "run", ("link",), ours)
    remove_files(tree / "run", ("deep", "missing"), ours)
    remove_files(tree / "missing", (), ours)
    assert os.listdir(tree / "mine") == ["own"]


def test_a_root_may_be_reached_through_a_link(tree):
    (tree / "way").symlink_to(tree / "run")
    remove_files(tree / "way", ("deep",), ours)
    assert not (tree / "run/deep/own").exists()


def test_a_folder_goes_only_if_it_is_one_and_is_empty(tree):
    for below in (("empty",), ("deep",), ("link",), ("missing",), ("missing", "deeper")):
        remove_empty_folder(tree / "run", below)
    remove_empty_folder(tree / "missing", ("empty",))
    assert sorted(os.listdir(tree / "run")) == ["deep", "link"]


def test_folders_are_listed_without_links(tree):
    assert real_folders(tree / "run", (), lambda name: name != "empty") == ["deep"]
    assert real_folders(tree / "run", ("link",), ours) == []
    assert real_folders(tree / "missing", (), ours) == []


def test_a_foreign_file_is_not_overwritten(tree):
    file = tree / "page.html"
    refuse_foreign_file(file, b"<!own", "a page")
    file.write_bytes(b"")
    refuse_foreign_file(file, b"<!own", "a page")
    file.write_bytes(b"<!own page>")
    refuse_foreign_file(file, b"<!own", "a page")
    for rule in (b"<!other", lambda path: path.stat().st_size > 100):
        with pytest.raises(RunError, match="is not a page that this package wrote"):
            refuse_foreign_file(file, rule, "a page")
    with pytest.raises(RunError, match="is no regular file"):
        refuse_foreign_file(tree / "mine", b"", "a page")
    file.unlink()
    file.symlink_to(tree / "mine/own")
    with pytest.raises(RunError, match="is a symbolic link"):
        refuse_foreign_file(file, b"", "a page")


def test_a_folder_that_a_killed_start_left_holds_nothing(tmp_path):
    folder = tmp_path / "run"
    assert holds_nothing(folder)
    folder.mkdir()
    (folder / own_files.HOLDER).write_text("{}")
    (folder / ".config.json.k3_x9a0b.pfedmoap").write_text("{")
    assert holds_nothing(folder)
    (folder / "thesis.tex").write_text("")
    assert not holds_nothing(folder)
    with pytest.raises(RunError, match="is no folder"):
        holds_nothing(folder / "thesis.tex")
    for number in range(6):
        (folder / f"z{number}").mkdir()
    assert contents_in_words(folder).endswith("thesis.tex, z0/, z1/ and 4 more")
