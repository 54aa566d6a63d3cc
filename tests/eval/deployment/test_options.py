"""What the commands of a federation refuse, and what they leave on disk before anything runs."""

import json

import pytest

from eval.commands import join, make_keys, serve

CLASSES = ["--classes", "cat,dog", "--device", "cpu"]


def refused(command, capsys, *words):
    with pytest.raises(SystemExit) as ended:
        command.main(list(words))
    assert ended.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--classes", "cat"], "1 names; give at least two"),
        ([*CLASSES, "--address", "8000"], "must be HOST:PORT"),
        ([*CLASSES, "--address", "0.0.0.0:8000", "--insecure", "true"], "this machine alone"),
        ([*CLASSES], "pfedmoap make-keys"),
        ([*CLASSES, "--sampling.unseen_clients", "1"], "sites have their own data"),
    ],
)
def test_a_server_that_cannot_be_is_refused(tmp_path, capsys, words, why):
    folder = tmp_path / "federation"
    assert why in refused(serve, capsys, "--out", str(folder), *words)
    assert not (folder / "federation.json").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--name", "a"], "needs --name and --data"),
        (["--name", "a/b", "--data", "x"], "a site's name"),
        (["--name", "a", "--data", "x"], "--credentials"),
        (["--name", "a", "--data", "x", "--insecure", "true"], "this machine alone"),
        (["--name", "a", "--data", "x", "--max_epsilon", "-1"], "must be positive"),
    ],
)
def test_a_site_that_cannot_be_is_refused(tmp_path, capsys, words, why):
    words = ["--server", "example.org:8000", "--folder", str(tmp_path / "site"), *words]
    assert why in refused(join, capsys, *words)


def test_a_site_keeps_what_its_operator_decided(tmp_path, capsys):
    words = ["--server", "x:1", "--folder", str(tmp_path / "site"), "--prepare", "true"]
    join.main([*words, "--name", "a", "--data", str(tmp_path), "--max_epsilon", "2"])
    join.main([*words, "--device", "cpu"])
    kept = json.loads((tmp_path / "site" / "site.json").read_text())
    assert (kept["name"], kept["max_epsilon"], kept["device"]) == ("a", 2.0, "cpu")
    assert "folder of site 'a'" in refused(join, capsys, *words, "--name", "b")


def test_a_site_pins_the_servers_key_that_it_was_given(tmp_path):
    make_keys.main(["--out", str(tmp_path), "--sites", "a"])
    words = ["--server", "x:1", "--folder", str(tmp_path / "site"), "--prepare", "true"]
    join.main([*words, "--name", "a", "--data", ".", "--credentials", str(tmp_path)])
    kept = json.loads((tmp_path / "site" / "site.json").read_text())
    assert kept["server_key"] == (tmp_path / "server.pub").read_text()
