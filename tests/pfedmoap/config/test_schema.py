"""The configuration: strict keys, real booleans, files under overrides."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import pytest

from pfedmoap.config.sampling import Seeds
from pfedmoap.config.schema import Schema
from pfedmoap.errors import ConfigError


@dataclass(frozen=True)
class Alpha:
    """First choice.

    Attributes:
        setting: Not an option.
        width: How wide it is.
        rate: A rate.
        flag: A switch.
        scale: A number or a word.
        words: Several words.
    """

    setting: object
    width: int = 3
    rate: float = 0.1
    flag: bool = False
    scale: float | Literal["sqrt"] = "sqrt"
    words: tuple[str, ...] = ("a",)


@dataclass(frozen=True)
class Beta:
    """Second choice."""

    depth: int | None = None


SCHEMA = Schema({"seeds": Seeds}, {"method": {"alpha": Alpha, "beta": Beta}}, {"method": "alpha"})


def parse(*arguments, extra=None):
    return SCHEMA.parse(list(arguments), "a test", extra)


def write(path, text):
    path.write_text(text)
    return str(path)


def test_defaults_then_file_then_overrides(tmp_path):
    file = write(tmp_path / "a.yaml", "method: {name: alpha, width: 5, rate: 1e-3}")
    config, _ = parse("--config", file, "--method.rate", "0.5", "--seeds.training=7")
    assert config.sections["method"] == {
        "name": "alpha",
        "width": 5,
        "rate": 0.5,
        "flag": False,
        "scale": "sqrt",
        "words": ["a"],
    }
    assert config.sections["seeds"]["training"] == 7
    assert SCHEMA.resolve(config.sections).sections == config.sections
    built = config.build("method", setting=None)
    assert built == Alpha(None, width=5, rate=0.5)


def test_numbers_in_scientific_notation_are_numbers(tmp_path):
    file = write(tmp_path / "a.yaml", "method: {rate: 1e-3}")
    assert parse("--config", file)[0].sections["method"]["rate"] == 0.001


def test_a_choice_by_its_short_name_drops_the_options_of_the_other(tmp_path):
    file = write(tmp_path / "a.yaml", "method: {name: alpha, width: 5}")
    config, _ = parse("--config", file, "--method", "beta", "--method.depth", "2")
    assert config.sections["method"] == {"name": "beta", "depth": 2}
    assert config.name("method") == "beta"
    assert SCHEMA.resolve({"method": "beta"}).sections["method"] == {"name": "beta", "depth": None}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": {"widht": 3}}, "widht"),
        ({"method": {"name": "gamma"}}, "no method 'gamma'; there are: alpha, beta"),
        ({"methods": {}}, "no section 'methods'"),
        ({"method": {"width": "three"}}, "width"),
        ({"method": {"width": True}}, "width"),
        ({"method": {"name": "beta", "width": 3}}, "choose `--method alpha` together with it"),
        ({"seeds": 3}, "must hold options"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        SCHEMA.resolve(options)


@pytest.mark.parametrize("option", ["--method.width=3", "--method.words+=a"])
def test_an_option_of_another_choice_says_which_choice_has_it(option, tmp_path):
    with pytest.raises(
        ConfigError, match=r"is no option of method 'beta': choose `--method alpha`"
    ):
        parse("--method", "beta", option)
    file = write(tmp_path / "a.yaml", "method: {name: beta, width: 5}")
    with pytest.raises(ConfigError, match=r"method.width is no option of method 'beta'"):
        parse("--config", file)


def test_boolean_strings_are_booleans_or_errors():
    """The released code read the string "False" as true."""
    assert parse("--method.flag", "False")[0].sections["method"]["flag"] is False
    assert parse("--method.flag", "true")[0].sections["method"]["flag"] is True
    assert SCHEMA.resolve({"method": {"flag": False}}).sections["method"]["flag"] is False
    for wrong in ("no way", 1, "1"):
        with pytest.raises(ConfigError, match="flag"):
            SCHEMA.resolve({"method": {"flag": wrong}})


def test_a_wrong_value_is_one_message_without_usage(capsys):
    with pytest.raises(ConfigError, match=r"method\.width"):
        parse("--method.width", "x")
    assert capsys.readouterr() == ("", "")


def test_the_configuration_is_printed_as_one_that_can_be_read(tmp_path, capsys):
    asked = ("--method", "beta", "--seeds.training", "5")
    with pytest.raises(SystemExit) as ended:
        parse(*asked, "--print_config")
    assert not ended.value.code
    file = write(tmp_path / "printed.yaml", capsys.readouterr().out)
    assert parse("--config", file)[0].sections == parse(*asked)[0].sections


def test_help_explains_every_option(capsys):
    with pytest.raises(SystemExit):
        parse("--help", "all")
    text = capsys.readouterr().out
    for words in ("How wide it is.", "A switch.", "Which client gets which images."):
        assert words in text


def test_extra_options_are_not_part_of_the_configuration():
    config, options = parse(
        "--out",
        "x",
        "--resume",
        "true",
        extra={"out": ("runs", "where"), "resume": (False, "go on")},
    )
    assert options == {"out": "x", "resume": True}
    assert set(config.sections) == {"seeds", "method"}


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        parse("--config", str(tmp_path / "none.yaml"))
    for text in ("- a list", "a: [unclosed"):
        with pytest.raises(ConfigError):
            parse("--config", write(tmp_path / "b.yaml", text))


def test_short_options_set_all_that_they_stand_for():
    aliases = {"seed": ("seeds.partition", "seeds.training")}
    schema = Schema({"seeds": Seeds}, {}, {}, aliases)
    config, _ = schema.parse(["--seed", "3"], "a test")
    assert config.sections["seeds"] == {"partition": 3, "few_shot": 0, "training": 3}


@dataclass(frozen=True)
class Needy:
    """A choice with an option that must be given.

    Attributes:
        root: A folder.
    """

    root: str


def test_a_required_option_may_come_from_the_command_line_alone():
    schema = Schema({}, {"data": {"folder": Needy}}, {"data": "folder"})
    assert schema.parse(["--data", "folder", "--data.root", "x"], "")[0].build("data").root == "x"
    with pytest.raises(ConfigError, match="root"):
        schema.parse(["--data", "folder"], "")


def test_naming_the_default_choice_keeps_the_options_of_a_file_without_a_name(tmp_path):
    file = write(tmp_path / "a.yaml", "method: {width: 5}")
    assert parse("--config", file, "--method", "alpha")[0].sections["method"]["width"] == 5


def test_an_explicit_option_wins_over_the_short_one():
    schema = Schema({"seeds": Seeds}, {}, {}, {"seed": ("seeds.partition", "seeds.training")})
    config, _ = schema.parse(["--seeds.training", "5", "--seed", "3"], "a test")
    assert config.sections["seeds"] == {"partition": 3, "few_shot": 0, "training": 5}


def test_a_choice_that_changes_no_result_is_made_and_not_recorded(capsys):
    places = {"place": {"here": Beta, "elsewhere": Alpha}}
    apart = Schema(
        {}, {**SCHEMA.choices, **places}, {"method": "beta", "place": "here"}, {}, ("place",)
    )
    config, _ = apart.parse(["--place", "elsewhere", "--place.width", "9"], "a test")
    assert config.sections == {"method": {"name": "beta", "depth": None}}
    assert config.name("place") == "elsewhere"
    assert config.build("place", setting=None).width == 9
    assert apart.resolve(config.sections).build("place") == Beta()
    assert apart.resolve({"place": {"name": "here", "depth": 2}}).build("place") == Beta(2)
    with pytest.raises(ConfigError, match="no place"):
        apart.resolve({"place": "nowhere"})
    with pytest.raises(ConfigError, match="no section 'place'"):
        SCHEMA.resolve({"place": "here"})
    with pytest.raises(SystemExit):
        apart.parse(["--place", "elsewhere", "--print_config"], "a test")
    assert "name: elsewhere" in capsys.readouterr().out


def test_a_configuration_leaves_nothing_to_the_next_one_of_the_same_choices():
    """They share a parser: no values, nothing of an error, and no other choice of the name."""
    plain = SCHEMA.resolve({})
    assert SCHEMA.resolve({"method": {"width": 5}, "seeds": {"training": 7}}) != plain
    for wrong in ({"method": {"width": "x"}}, {"method": {"wdth": 5}}):
        with pytest.raises(ConfigError):
            SCHEMA.resolve(wrong)
    assert SCHEMA.resolve({}) == plain
    with ThreadPoolExecutor(4) as threads:
        widths = [{"method": {"width": width}} for width in range(40)]
        found = [
            config.sections["method"]["width"] for config in threads.map(SCHEMA.resolve, widths)
        ]
    assert found == list(range(40))
    other = replace(SCHEMA, choices={"method": {"alpha": Beta}})
    assert other.resolve({}).sections["method"] == {"name": "alpha", "depth": None}
