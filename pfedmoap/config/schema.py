"""Configuration: one YAML file, overrides on top, every option typed, documented and used.

A configuration has *sections*. Most are one frozen dataclass (``training``, ``backbone``); others
are a *choice* between several (``data``, ``partition``, ``method``, ``privacy``): their ``name``
says which, and only the options of that one are valid. ``--method promptfl`` is short for
``--method.name promptfl``. Unknown keys, strings for booleans and the like are errors.
"""

import json
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from threading import Lock
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from pfedmoap.config.bounds import check_section
from pfedmoap.config.exact_options import (
    command_parser,
    expand_shorthand,
    parse,
    parse_sections,
    take_option,
)
from pfedmoap.config.introspection import is_asked, show_parser
from pfedmoap.config.option_hints import (
    OpenChoices,
    check_form,
    options_of,
    options_on,
    refuse_misplaced,
)
from pfedmoap.config.recommended import with_recommended
from pfedmoap.config.schema_help import help_page, take_help, words_of_choices
from pfedmoap.config.suggestions import none_such
from pfedmoap.errors import ConfigError
from pfedmoap.storage.atomic_files import read_sections

Section = dict[str, Any]  # options by name, as JSON
Choices = Mapping[str, Mapping[str, type]]
_PARSERS: dict[Hashable, ArgumentParser] = {}  # by their sections' classes
_MOST_PARSERS = 256
_PARSING = Lock()  # one parser serves all threads, one at a time


@dataclass(frozen=True)
class Schema:
    """All sections that a configuration has.

    Attributes:
        fixed: Sections of one form, by name.
        choices: Sections with a ``name``: classes by choice, by section.
        defaults: The choice taken where none is given, by section.
        aliases: Short command-line options for others, e.g. ``device`` for ``backbone.device``.
        apart: Choices that change nothing of a result, so that no run records them: it may be
            continued with others.
        locate: Finds the file that ``--config`` names.
    """

    fixed: Mapping[str, type]
    choices: Choices
    defaults: Mapping[str, str]
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    apart: tuple[str, ...] = ()
    locate: Callable[[str], Path] = Path

    def resolve(self, config: Mapping[str, Any]) -> "Config":
        """Check a configuration and fill in what choices recommend, and every default.

        Args:
            config: Options by section, e.g. read from YAML; missing ones take their defaults.

        Returns:
            The resolved configuration.

        Raises:
            ConfigError: A section, key, choice or value is wrong; the message says which.
        """
        tidy = self._merge({}, config)
        names = self._names(tidy)
        refuse_misplaced(self.choices, names, options_of(tidy))
        self._check_values(tidy, names, read=False)
        tidy = with_recommended(tidy, self.choices, names, options_of(tidy))
        with _PARSING:
            return self._config(parse_sections(self._kept_parser(names), tidy))

    def merge(self, *layers: Mapping[str, Any]) -> Section:
        """Merge configurations; a new choice drops the options of the old one.

        Args:
            *layers: Options by section; later ones take precedence.

        Returns:
            The result, still without defaults.

        Raises:
            ConfigError: A section is unknown or holds no options.
        """
        merged: Section = {}
        for layer in layers:
            merged = self._merge(merged, layer)
        return merged

    def parse(
        self,
        arguments: Sequence[str] | None,
        description: str,
        extra: Mapping[str, tuple[Any, str]] | None = None,
    ) -> tuple["Config", Section]:
        """Read the command line: defaults, recommendations, ``--config`` files, other options.

        Args:
            arguments: The command line; ``None`` takes the process's own.
            description: What ``--help`` says the command does.
            extra: Further options of this command: by name, the default (its type is the option's)
                and a help text. They are not part of the configuration.

        Returns:
            The resolved configuration, and the extra options.

        Raises:
            ConfigError: A file cannot be read, or it or the command line has a wrong section, key,
                option, choice or value.
            SystemExit: Help or the configuration was asked for, and is printed.
        """
        asks, topic, argv = take_help(sys.argv[1:] if arguments is None else arguments)
        argv = expand_shorthand(argv, self.choices)
        for short, long in self.aliases.items():
            values, argv = take_option(argv, short)
            argv = [f"--{option}={value}" for value in values[-1:] for option in long] + argv
        files, argv = take_option(argv, "config")
        merged: Section = {}
        for file in files:
            merged = self._merge(merged, read_sections(self.locate(file)))
        for section in self.choices:
            taken, argv = take_option(argv, f"{section}.name")
            if taken:
                merged = self._merge(merged, {section: {"name": taken[-1]}})
        names = self._names(merged)
        given = [*options_of(merged), *options_on(argv)]
        refuse_misplaced(self.choices, names, given)
        self._check_values(merged, names, read=False)
        merged = with_recommended(merged, self.choices, names, given)
        parser = self.parser_for(names, description)
        only_shown = asks or is_asked()
        base = None if only_shown else parse_sections(parser, self._with_required(merged, argv))
        parser.add_argument("--config", help="a YAML file of options; may be given several times")
        for name, (default, text) in (extra or {}).items():
            parser.add_argument(f"--{name}", type=type(default), default=default, help=text)
        parser.add_argument(
            "--print_config", action="store_true", help="print the resolved configuration and stop"
        )
        if is_asked():
            show_parser(parser, words_of_choices(self))
        if asks:
            own = ["config", *(extra or {}), "print_config"]
            sys.stdout.write(help_page(self, names, parser, own, topic))
            sys.exit(0)
        rest = [word for word in argv if word != "--print_config"]  # jsonargparse has its own
        parsed = parse(parser, rest, base, short=[*self.choices, *self.aliases])
        options = {name: parsed.pop(name) for name in (extra or {})}
        parsed.pop("config", None)
        parsed.pop("print_config")
        config = self._config(parsed)
        if len(rest) < len(argv):
            everything = {**config.sections, **config.apart}
            sys.stdout.write(yaml.safe_dump(everything, sort_keys=False))
            sys.exit(0)
        return config, options

    def _merge(self, base: Section, over: Mapping[str, Any]) -> Section:
        """Merge one configuration into another; a new choice drops the options of the old one."""
        known = {*self.fixed, *self.choices}
        merged = dict(base)
        for section, given in over.items():
            if section not in known:
                raise ConfigError(none_such("section", section, sorted(known)))
            shorthand = section in self.choices and isinstance(given, str)
            options = {"name": given} if shorthand else given
            check_form(section, options)
            kinds = self.choices.get(section)
            if isinstance(kinds, OpenChoices) and "name" in options:
                options = {**options, "name": kinds.canonical(str(options["name"]))}
            old = dict(merged.get(section, {}))
            if "name" in options and options["name"] != old.get("name", self.defaults.get(section)):
                old = {}
            merged[section] = old | dict(options)
        return merged

    def _with_required(self, config: Section, argv: Sequence[str]) -> Section:
        """Add options without a default that the command line gives, so that none is missing."""
        for section, name in self._names(config).items():
            for option in signature(self.choices[section][name]).parameters.values():
                if option.default is not option.empty:
                    continue
                values, _ = take_option(argv, f"{section}.{option.name}")
                if values:
                    config = self._merge(config, {section: {option.name: values[-1]}})
        return config

    def _names(self, config: Mapping[str, Any]) -> dict[str, str]:
        names = {s: config.get(s, {}).get("name", self.defaults.get(s)) for s in self.choices}
        if missing := [section for section, name in names.items() if name is None]:
            raise ConfigError(f"choose a name for: {', '.join(missing)}")
        return {section: str(name) for section, name in names.items()}

    def parser_for(self, names: Mapping[str, str], description: str = "") -> ArgumentParser:
        """Make the parser of one choice in each section.

        Args:
            names: The name that each section of `choices` has, e.g. ``{"method": "promptfl"}``.
            description: What its help begins with.

        Raises:
            ConfigError: There is no such name.
        """
        parser = command_parser(description)
        for section, kind in self.fixed.items():
            parser.add_class_arguments(kind, section)
        for section, options in self.choices.items():
            name = names[section]
            if name not in options:
                raise ConfigError(none_such(section, name, sorted(options)))
            parser.add_class_arguments(options[name], section, skip={"setting"})
            parser.add_argument(
                f"--{section}.name",
                default=name,
                choices=sorted({*options, name}),
                help=f"which {section}; `--{section} NAME` for short",
            )
        return parser

    def _kept_parser(self, names: Mapping[str, str]) -> ArgumentParser:
        """The parser of these choices; it is kept, since making one takes as long as its use."""
        known = tuple((section, *sorted(options)) for section, options in self.choices.items())
        chosen = tuple((name, self.choices[at].get(name)) for at, name in sorted(names.items()))
        key = (known, chosen, *self.fixed.items())
        if key not in _PARSERS:
            if len(_PARSERS) == _MOST_PARSERS:
                _PARSERS.clear()
            _PARSERS[key] = self.parser_for(names)
        return _PARSERS[key]

    def _config(self, parsed: Namespace) -> "Config":
        sections: dict[str, Section] = parsed.as_dict()
        self._check_values(sections, self._names(sections), read=True)
        plain = json.loads(json.dumps(sections))
        apart = {name: plain.pop(name) for name in self.apart}
        return Config(self, plain, apart)

    def _check_values(
        self, sections: Mapping[str, Section], names: Mapping[str, str], *, read: bool
    ) -> None:
        for section, options in sections.items():
            kind = self.fixed.get(section) or self.choices[section].get(names[section])
            if kind is not None:  # an unknown choice is refused with the list of all
                check_section(kind, section, options, read=read)


@dataclass(frozen=True)
class Config:
    """A resolved configuration.

    Attributes:
        schema: Its sections' forms.
        sections: Every option by section, as JSON.
        apart: The same of sections that change nothing of a result, and are not recorded.
    """

    schema: Schema
    sections: Mapping[str, Section]
    apart: Mapping[str, Section] = field(default_factory=dict)

    def build(self, section: str, **arguments: Any) -> Any:
        """Instantiate a section's class.

        Args:
            section: Its name.
            **arguments: What is not an option, e.g. a method's ``setting``.

        Returns:
            An instance of the section's class.
        """
        options = dict({**self.sections, **self.apart}[section])
        name = options.pop("name", None)
        fixed = self.schema.fixed
        kind = fixed[section] if section in fixed else self.schema.choices[section][str(name)]
        return kind(**{key: _tuples(value) for key, value in options.items()}, **arguments)

    def name(self, section: str) -> str:
        """Return the selected choice of a section."""
        return str({**self.sections, **self.apart}[section]["name"])


def _tuples(value: Any) -> Any:  # JSON of any shape
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
