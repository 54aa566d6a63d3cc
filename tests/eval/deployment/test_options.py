"""What the commands of a federation refuse, and what they leave on disk before anything runs."""

import json

import pytest
from PIL import Image

from eval.commands import example_sites, join, make_keys, serve

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
        ([*CLASSES, "--sampling.validation", "0.2"], "sites have their own data"),
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
        (["--name", "a", "--data", "x", "--credentials", "nowhere"], "server.pub is missing"),
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


def test_example_sites_have_all_classes_and_no_image_twice(tmp_path):
    example_sites.main(["--out", str(tmp_path), "--sites", "a,b"])
    classes = (tmp_path / "classes.txt").read_text().splitlines()
    assert len(classes) == 10
    names = [{file.name for file in (tmp_path / site).rglob("*.png")} for site in "ab"]
    assert len(names[0]) == len(names[1]) == 120
    assert not names[0] & names[1]
    assert {place.name for place in (tmp_path / "a").iterdir()} == set(classes)


def test_a_tree_is_shared_out_to_sites_each_image_once(tmp_path, capsys):
    tree, out = tmp_path / "tree", tmp_path / "out"
    for domain, class_name, images in (("a b", "01.cup_big", 5), ("a b", "t", 4), ("c", "t", 7)):
        place = tree / domain / class_name
        place.mkdir(parents=True)
        for number in range(images):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(place / f"{number}.png")
    example_sites.main(["--out", str(out), "--data", str(tree), "--per_domain", "2"])
    assert (out / "sites.txt").read_text().split() == ["a-b-1", "a-b-2", "c-1", "c-2"]
    assert (out / "classes.txt").read_text().splitlines() == ["cup big", "t"]
    found = {site: list((out / site).rglob("*.png")) for site in ("a-b-1", "a-b-2", "c-1", "c-2")}
    assert [len(files) for files in found.values()] == [5, 4, 3, 4]
    copies = sorted(file.read_bytes() for files in found.values() for file in files)
    assert copies == sorted(file.read_bytes() for file in tree.rglob("*.png"))
    make_keys.main(["--out", str(tmp_path / "keys"), "--sites", str(out / "sites.txt")])
    assert len(list((tmp_path / "keys" / "sites").iterdir())) == 4
    more = refused(example_sites, capsys, *("--out", str(out), "--data", str(tree / "c")))
    assert "no domains: name its sites with --sites" in more
    many = ("--out", str(tmp_path / "x"), "--data", str(tree), "--per_domain", "9")
    assert "too few for 18 sites" in refused(example_sites, capsys, *many)
    assert "--sites" in refused(example_sites, capsys, "--out", str(out))


def test_without_flower_the_commands_say_how_to_install_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pfedmoap.engine.flower.places.find_spec", lambda _: None)
    said = refused(serve, capsys, "--out", str(tmp_path), *CLASSES)
    assert "pip install 'pfedmoap[flower]'" in said
