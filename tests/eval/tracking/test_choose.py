"""Trackers by name: what is unknown or not installed is refused before anything runs."""

import importlib.util

import pytest

import pfedmoap
from eval.api.trackers import tracker
from eval.commands import compare, train
from eval.tracking.choose import KINDS, Tracks
from pfedmoap.errors import ConfigError
from tests.helpers.runs import small


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ("tensorbord", "there is no tracker 'tensorbord'; nearest: tensorboard"),
        ("csv,csv", "names a tracker twice"),
        ("csv, neptune", "there is no tracker 'neptune'; nearest: "),
    ],
)
def test_what_is_no_tracker_is_refused_before_anything_is_done(names, why, tmp_path, capsys):
    with pytest.raises(ConfigError, match=why):
        pfedmoap.train(small(tmp_path), out=tmp_path / "run", track=names)
    for command, words in ((train, []), (compare, ["eval/configs/compare-smoke.yaml"])):
        with pytest.raises(SystemExit):
            command.main([*words, "--track", names, "--out", str(tmp_path / "run")])
        assert why in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_package_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("eval.tracking.choose.find_spec", lambda name: None)
    assert Tracks.of("csv").kinds == ("csv",)
    for kind in set(KINDS) - {"csv"}:
        with pytest.raises(ConfigError, match=r"pip install 'pfedmoap\[tracking\]'"):
            Tracks.of(kind)
    assert importlib.util.find_spec("json") is not None


def test_nothing_is_tracked_without_a_name():
    assert Tracks.of("").kinds == Tracks.of([]).kinds == ()
    assert Tracks.of(" csv , ").kinds == ("csv",)


def test_an_option_that_a_tracker_does_not_have_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="csv does not take uri"):
        tracker("csv", tmp_path, uri="x")
    assert isinstance(pfedmoap.tracker("csv", tmp_path), pfedmoap.Callback)
