"""``predict``: files, folders, names on stdin; a table, JSON, CSV; images that are none."""

import csv
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.commands import predict
from eval.image_answers import answers, named_files
from pfedmoap.errors import DataError
from pfedmoap.inference import Answer, PersonalizedClassifier


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Three images, two of them in folders, and one that is none."""
    stream = np.random.default_rng(1)
    for name in ("b.png", "a.png", "deeper/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pixels = stream.integers(0, 255, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no image")
    return tmp_path


@pytest.fixture(scope="module")
def classifier(finished_run: Path) -> PersonalizedClassifier:
    return PersonalizedClassifier.load(finished_run, 1, device="cpu")


def test_folders_and_stdin_name_files(files):
    listed = [str(files / name) for name in ("a.png", "b.png", "broken.png", "deeper/c.png")]
    assert named_files([str(files)], []) == listed
    lines = [f"{files / 'b.png'}\n", "\n", "two words.png\r\n"]
    assert named_files(["-", "x.png"], lines) == [str(files / "b.png"), "two words.png", "x.png"]
    (files / "empty").mkdir()
    with pytest.raises(DataError, match=r"there is no image in .*empty"):
        named_files([str(files / "empty")], [])


def test_batches_give_each_file_its_own_answer(classifier, files):
    names = named_files([str(files)], [])
    moved: list[tuple[int, int]] = []
    found = list(answers(classifier, names, 2, lambda *at: moved.append(at)))
    assert [one.file for one in found] == names
    assert [one.problem is None for one in found] == [True, True, False, True]
    assert moved == [(2, 4), (4, 4)]
    for one in found:
        if one.answer is not None:
            (alone,) = classifier.classify([one.file])
            assert dict(one.answer.ranking) == pytest.approx(dict(alone.ranking), abs=1e-5)


def asked(run: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    """Exit code, output and errors."""
    code = 0
    try:
        predict.main([str(run), "--client", "1", "--device", "cpu", *options])
    except SystemExit as ended:
        code = int(str(ended.code))
    out, err = capsys.readouterr()
    return code, out, err


def test_json_tells_all_classes_and_names_what_cannot_be_read(finished_run, files, capsys):
    code, out, err = asked(finished_run, capsys, str(files), "--json", "true")
    assert code == 1
    found = json.loads(out)
    assert [Path(one["image"]).name for one in found] == ["a.png", "b.png", "broken.png", "c.png"]
    assert sum(found[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert found[0]["probability"] == max(found[0]["probabilities"].values())
    assert sum(found[0]["attention"].values()) == pytest.approx(1, abs=1e-5)
    assert "broken.png cannot be read as an image" in found[2]["error"]
    assert err.startswith("error: ")
    assert "broken.png cannot be read as an image: not an image; in all 1 of 4 images" in err


def test_csv_has_a_column_for_each_class(finished_run, files, capsys, monkeypatch):
    names = io.StringIO(f"{files / 'a.png'}\n{files / 'broken.png'}\n")
    monkeypatch.setattr(sys, "stdin", names)
    code, out, _ = asked(finished_run, capsys, "-", "--csv", "true")
    assert code == 1
    first, second = csv.DictReader(io.StringIO(out))
    chances = {name[2:-1]: float(p) for name, p in first.items() if name.startswith("p(")}
    assert len(chances) == 10
    assert first["class"] == max(chances, key=lambda name: chances[name])
    assert float(first["probability"]) == max(chances.values())
    assert (second["class"], second["p(the digit 3)"]) == ("", "")
    assert "not an image" in second["error"]


def test_names_of_classes_act_on_no_terminal(files, capsys, monkeypatch):
    class Named:
        class_names = ("cat\x9b2J", "dog")

        def classify(self, images, batch_size):
            return [Answer((("cat\x9b2J", 0.75), ("dog", 0.25)), None) for _ in images]

    monkeypatch.setattr(PersonalizedClassifier, "load", lambda *_: Named())
    for terminal, shown in ((True, "cat\\x9b2J"), (False, "cat\x9b2J")):
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal)
        predict.main(["model", str(files / "a.png"), "--csv"])
        assert f"p({shown})" in capsys.readouterr().out
    predict.main(["model", str(files / "a.png"), "--json"])
    assert "\x9b" not in capsys.readouterr().out


def test_a_table_answers_the_rest_and_every_bad_file_is_named(finished_run, files, capsys):
    (files / "worse.png").write_bytes(b"")
    code, out, err = asked(finished_run, capsys, str(files))
    assert code == 1
    assert out.count("the digit") >= 3
    assert "warning: " in err
    assert "broken.png" in err
    assert "worse.png cannot be read as an image: the file is empty; in all 2 of 5 images" in err


def test_all_is_well_without_a_bad_file_and_no_bar_is_drawn_in_a_pipe(finished_run, files, capsys):
    (files / "broken.png").unlink()
    assert asked(finished_run, capsys, str(files), "--batch_size", "1")[::2] == (0, "")


@pytest.mark.parametrize(("terminal", "size"), [(True, 2), (False, 2), (True, 64)])
def test_a_bar_is_for_a_terminal_and_more_than_one_batch(
    terminal, size, finished_run, files, capsys, monkeypatch
):
    shown: list[bool] = []

    @contextmanager
    def bar(*_: str, shown_now: list[bool] = shown, **options: bool) -> Iterator[object]:
        shown_now.append(options["shown"])
        yield lambda done, total: None

    monkeypatch.setattr(predict, "progress_bar", bar)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    asked(finished_run, capsys, str(files), "--batch_size", str(size))
    assert shown == [terminal and size == 2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--json", "true", "--csv", "true"], "choose one"),
        (["--batch_size", "0"], "--batch_size must be at least 1"),
        (["--device", "abacus"], "unknown device"),
    ],
)
def test_wrong_options_are_refused(options, said, finished_run, files, capsys):
    code, out, err = asked(finished_run, capsys, str(files / "a.png"), *options)
    assert (code, out) == (1, "")
    assert said in err
