"""Help about a configuration: a page that fits a screen, and one for each of its parts."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from inspect import getdoc
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser

from pfedmoap.config.help_page import (
    option_rows,
    paragraph,
    rows,
    section_rows,
    tidied,
)
from pfedmoap.config.introspection import Words
from pfedmoap.config.spelling import takes, words_of
from pfedmoap.config.suggestions import nearest
from pfedmoap.errors import ConfigError

if TYPE_CHECKING:
    from pfedmoap.config.schema import Schema

ALL = "all"


def take_help(argv: Sequence[str]) -> tuple[bool, str | None, list[str]]:
    """Split ``--help`` and its topic from a command line.

    Args:
        argv: The command line.

    Returns:
        Whether help is asked for; about what, ``None`` for all in short; and the other words.
    """
    for place, word in enumerate(argv):
        name, equals, topic = word.partition("=")
        if name not in ("-h", "--help"):
            continue
        after = [*argv[place + 1 :]]
        if not equals and after and not after[0].startswith("-"):
            topic = after.pop(0)
        return True, topic or None, [*argv[:place], *after]
    return False, None, [*argv]


def help_page(
    schema: "Schema",
    names: Mapping[str, str],
    parser: ArgumentParser,
    own: Sequence[str],
    topic: str | None,
) -> str:
    """Make the page that ``--help [TOPIC]`` prints.

    Args:
        schema: All sections.
        names: The selected choice of each section that has choices.
        parser: The command's, with the options of these choices and its own.
        own: Names of the command's own options.
        topic: A section, a choice as ``method.promptfl``, an option, or ``all``.

    Returns:
        The page.

    Raises:
        ConfigError: There is no such topic.
    """
    if topic is None:
        return "\n".join(_overview(schema, names, parser, own)) + "\n"
    topic = topic.removeprefix("--")
    if topic == ALL:
        lines = _overview(schema, names, parser, own)
        for section in [*schema.fixed, *schema.choices]:
            for lines_of in _parts(schema, section):
                lines += ["", *lines_of]
        return "\n".join(lines) + "\n"
    section, _, choice = topic.partition(".")
    if topic in schema.fixed:
        return "\n".join(_form(schema.fixed[topic], topic)) + "\n"
    if topic in schema.choices:
        return "\n".join(_choices(schema, names, topic)) + "\n"
    if choice and choice in schema.choices.get(section, ()):
        return "\n".join(_choice(schema, section, choice)) + "\n"
    for action in parser._actions:
        if f"--{topic}" in action.option_strings:
            return "\n".join(rows(option_rows(parser, [action]))) + "\n"
    raise ConfigError(_no_topic(schema, parser, topic))


def topics(schema: "Schema") -> list[str]:
    """Name all that ``--help`` has a page about, but for single options."""
    named = [f"{section}.{name}" for section in schema.choices for name in schema.choices[section]]
    return [ALL, *schema.fixed, *schema.choices, *named]


def words_of_choices(schema: "Schema") -> dict[str, Words]:
    """List the options of all choices, those of the same name with the values of all."""
    found: dict[str, Words] = {"--help": Words("what all is about", tuple(topics(schema)))}
    for short, long in schema.aliases.items():
        found[f"--{short}"] = Words(f"short for --{', --'.join(long)}")
    for section, kinds in schema.choices.items():
        found[f"--{section}"] = Words(f"which {section}", tuple(kinds))
        for name in kinds:
            for action in _parser_of(kinds[name], section)._actions:
                option = f"--{action.dest}"
                if action.dest.startswith(f"{section}.") and option in action.option_strings:
                    hint = getattr(action, "_typehint", None)
                    before = found.get(option, Words())
                    choices = (*before.choices, *sorted(words_of(hint)))
                    found[option] = Words(
                        before.about or tidied(action.help or ""),
                        tuple(dict.fromkeys(choices)),
                        hint is bool,
                    )
    return found


def _overview(
    schema: "Schema", names: Mapping[str, str], parser: ArgumentParser, own: Sequence[str]
) -> list[str]:
    options = [a for a in parser._actions if a.dest in ("help", *own)]
    lines = [f"usage: {parser.prog} [OPTIONS]", "", *paragraph(parser.description or ""), ""]
    hints = {action.dest: getattr(action, "_typehint", None) for action in parser._actions}
    short = [
        (f"--{name} {takes(hints[long[0]])}", f"short for --{', --'.join(long)}")
        for name, long in schema.aliases.items()
    ]
    lines += ["Options of this command:", *rows([*option_rows(parser, options[1:]), *short])]
    if schema.choices:
        lines += ["", "Chosen by name, as --method NAME:"]
    for section, kinds in schema.choices.items():
        others = ", ".join(sorted({*kinds, names[section]} - {names[section]}))
        lines += rows([(f"--{section} {names[section]}", f"or {others}" if others else "")])
    lines += ["", "Parts, each with options of its own, --PART.OPTION:"]
    sections = {section: _line(kind) for section, kind in schema.fixed.items()}
    lines += rows(sections.items(), column=14)
    choice = next((f"{s}.{names[s]}" for s in ("method", *names) if s in names), None)
    those = "" if choice is None else f" --help {choice} those of a choice,"
    option = next((a.dest for a in parser._actions if "." in a.dest), "")
    return [
        *lines,
        "",
        *paragraph(
            f"--help PART explains the options of a part,{those} --help {option} one option, and "
            "--help all everything."
        ),
    ]


def _parts(schema: "Schema", section: str) -> Iterator[list[str]]:
    if section in schema.fixed:
        yield _form(schema.fixed[section], section)
    for choice in schema.choices.get(section, ()):
        yield _choice(schema, section, choice)


def _form(kind: type, section: str) -> list[str]:
    load = (f"--{section} FILE", "A YAML file of options of this part.")
    return [
        *_about(kind, section),
        *section_rows(_parser_of(kind, section), section),
        *rows([load]),
    ]


def _choices(schema: "Schema", names: Mapping[str, str], section: str) -> list[str]:
    kinds = schema.choices[section]
    listed = [(name, _line(kinds[name])) for name in kinds]
    head = f"--{section} NAME (default: {schema.defaults.get(section, 'none')}); NAME is one of:"
    closing = f"--help {section}.NAME explains the options of one of them. Those of {section}."
    return [
        head,
        *rows(listed, column=max(len(name) for name in kinds) + 4),
        "",
        *paragraph(f"{closing}{names[section]}:"),
        "",
        *_choice(schema, section, names[section]),
    ]


def _choice(schema: "Schema", section: str, choice: str) -> list[str]:
    kind = schema.choices[section][choice]
    lines = section_rows(_parser_of(kind, section), section)
    return [*_about(kind, f"{section}.{choice}"), *(lines or ["  no options of its own"])]


@cache
def _parser_of(kind: type, section: str) -> ArgumentParser:
    """The options of a class, to be looked at and not parsed with."""
    parser = ArgumentParser(allow_abbrev=False)
    parser.add_class_arguments(kind, section, skip={"setting"})
    return parser


def _about(kind: type, where: str) -> list[str]:
    text = (getdoc(kind) or "").split("\n\n")[0]
    return [*paragraph(f"{where}: {text}"), ""]


def _line(kind: type) -> str:
    return tidied((getdoc(kind) or "").split("\n\n")[0]).partition(". ")[0].rstrip(".")


def _no_topic(schema: "Schema", parser: ArgumentParser, topic: str) -> str:
    known = [*topics(schema), *(a.dest for a in parser._actions if a.option_strings)]
    near = nearest(topic, known)
    hint = f"nearest: {', '.join(near)}" if near else f"there are: {', '.join(topics(schema)[:20])}"
    return f"--help knows nothing about {topic!r}; {hint}"
