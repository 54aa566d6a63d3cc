"""The nearest name, in whatever form a wrong one was written."""

import pytest
from PIL import Image

from eval.choices import schema
from eval.commands import check_method
from pfedmoap.config.exact_options import refuse_unknown_keys
from pfedmoap.config.suggestions import nearest, none_such, perhaps
from pfedmoap.data.folder import ImageFolder
from pfedmoap.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("Prompt-FL", "promptfl"),
        ("prompt_fl", "promptfl"),
        ("fedproxx", "fedprox"),
        ("pfedmopa", "pfedmoap"),
        ("zeroshot", "zero_shot"),
    ],
)
def test_the_likeliest_comes_first(given: str, meant: str):
    assert nearest(given, schema().choices["method"])[0] == meant


def test_nothing_is_suggested_where_nothing_is_alike():
    assert nearest("xyzzy", ["promptfl"]) == []
    assert nearest("", ["promptfl"]) == []
    assert none_such("method", None, ["a"]) == "no method nothing (null); there are: a"


@pytest.mark.parametrize(
    ("section", "given", "meant"),
    [
        ("method", "promtfl", "promptfl"),
        ("partition", "dirichelt", "dirichlet"),
        ("data", "caltech_101", "caltech101"),
        ("privacy", "dp-sgd", "dpsgd"),
    ],
)
def test_a_mistyped_choice_is_one_line_with_the_nearest(section: str, given: str, meant: str):
    for refused in (
        lambda: schema().resolve({section: given}),
        lambda: schema().parse([f"--{section}", given], "a test"),
        lambda: schema().parse([f"--{section}", given, "--help"], "a test"),
    ):
        with pytest.raises(ConfigError, match=f"no {section} '{given}'; nearest: {meant}") as found:
            refused()
        assert "\n" not in str(found.value)


def test_class_names_that_are_none_are_answered_with_the_nearest(tmp_path):
    for name in ("golden_retriever", "pug"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / name / f"{number}.png")
    wrong = {"golden retreiver": "dog"}
    with pytest.raises(DataError, match="'golden retreiver' is perhaps 'golden_retriever'"):
        ImageFolder(str(tmp_path), class_names=wrong).read()
    assert perhaps(["zebra"], ["cat"]) == ""


def test_sections_keys_and_methods_of_other_commands_are_suggested_too(capsys):
    with pytest.raises(ConfigError, match="no section 'trainig'; nearest: training"):
        schema().resolve({"trainig": {}})
    with pytest.raises(ConfigError, match=r"has no 'sedes' \('sedes' is perhaps 'seeds'\)"):
        refuse_unknown_keys({"sedes": 1}, ["seeds", "methods"], "a comparison")
    with pytest.raises(SystemExit):
        check_method.main(["promtfl"])
    assert "no method 'promtfl'; nearest: promptfl" in " ".join(capsys.readouterr().err.split())
