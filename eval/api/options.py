"""Options given as keywords, put together to one configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eval.choices import training_schema
from eval.configurations import located
from pfedmoap.config.schema import Config
from pfedmoap.errors import ConfigError
from pfedmoap.storage.atomic_files import read_sections

Sections = Mapping[str, Any]  # options of any type, by section


def resolved(config: Sections | str | Path | None, options: Sections) -> Config:
    """Check a configuration with options on top, and fill in every default.

    Args:
        config: Options by section, or a YAML file that holds them (of the package, by
            its name, where there is no such file); ``None`` for the defaults.
        options: More of them, which take precedence. By section (``rounds={"rounds": 3}``), a
            choice by its name (``method="promptfl"``), one option with two underscores after its
            section (``method__experts=5``), or by a short name (``seed=1``, ``device="cpu"``).

    Returns:
        The resolved configuration.

    Raises:
        ConfigError: A section, option, choice or value is wrong; the message says which.

    Examples:
        >>> found = resolved({"method": {"experts": 2}}, {"rounds__rounds": 3, "seed": 7})
        >>> found.sections["method"]["experts"], found.sections["rounds"]["rounds"]
        (2, 3)
        >>> found.sections["seeds"]["training"]
        7
    """
    layers: list[Sections] = []
    if isinstance(config, str | Path):
        layers.append(read_sections(located(config)))
    elif isinstance(config, Mapping):
        layers.append(config)
    elif config is not None:
        raise ConfigError(
            "config must be a mapping of sections or the path of a YAML file, got "
            f"{type(config).__name__}"
        )
    layers += [_layer(name, options[name]) for name in sorted(options, key=_order)]
    merged = training_schema().merge(*(_plain(layer) for layer in layers))
    return training_schema().resolve(merged)


def _order(name: str) -> int:
    """What is more exact comes later; a choice before its options, which it would drop."""
    if name in training_schema().aliases:
        return 0
    return 1 if "__" not in name else 2 if name.endswith("__name") else 3


def _layer(name: str, value: Any) -> Sections:
    if name in training_schema().aliases:
        layer: dict[str, dict[str, Any]] = {}
        for long in training_schema().aliases[name]:
            section, option = long.split(".")
            layer.setdefault(section, {})[option] = value
        return layer
    section, two, option = name.partition("__")
    return {section: {option: value}} if two else {section: value}


def _plain(value: Any) -> Any:
    """Turn paths into text, tuples into lists and NumPy's numbers into Python's, as in a file."""
    if isinstance(value, Mapping):
        return {key: _plain(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(own) for own in value]
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, Path) else value
