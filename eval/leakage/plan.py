"""What is observed, as a YAML file: settings of privacy, each on two tasks.

``base`` holds options that all runs share; ``label_sets`` and ``membership`` hold those of the two
attacks, e.g. their partitions; ``settings`` holds partial configurations by label::

    base: {method: promptfl, sampling: {shots: 16, server_shots: 40}}
    label_sets: {partition: pathological}
    membership: {partition: {name: dirichlet, alpha: 0.3}}
    settings: {plain: {}, 'release, epsilon 8': {privacy: {name: release, epsilon: 8}}}
    seeds: [0, 1]
    shadows: 16
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.choices import schema
from pfedmoap.config.exact_options import refuse_unknown_keys
from pfedmoap.config.schema import Config, Section
from pfedmoap.errors import ConfigError
from pfedmoap.storage.atomic_files import read_sections

TASKS = ("label_sets", "membership")
KEYS = {"base", "settings", "seeds", "shadows", *TASKS}
_SEEDED = ("partition", "few_shot", "training")


@dataclass(frozen=True)
class LeakagePlan:
    """What is observed.

    Attributes:
        configs: Configurations by setting and task.
        seeds: Seeds.
        shadows: Shadow clients for each client and round.
        source: What it was made from, as JSON.
    """

    configs: Mapping[tuple[str, str], Config]
    seeds: tuple[int, ...]
    shadows: int
    source: Section

    @property
    def settings(self) -> tuple[str, ...]:
        """Labels of the settings in the order of the file."""
        return tuple(dict.fromkeys(setting for setting, _ in self.configs))

    def config(self, setting: str, task: str, seed: int) -> Config:
        """The configuration of one run."""
        config = self.configs[setting, task]
        seeds = dict.fromkeys(_SEEDED, seed)
        return replace(config, sections={**config.sections, "seeds": seeds})


def read_leakage_plan(path: Path) -> LeakagePlan:
    """Read a file.

    Raises:
        ConfigError: It cannot be read, or is wrong; see `leakage_plan`.
    """
    return leakage_plan(read_sections(path))


def leakage_plan(source: Mapping[str, Any]) -> LeakagePlan:
    """Resolve every configuration.

    Args:
        source: The file's content.

    Raises:
        ConfigError: A key is unknown or missing, or a value is wrong; the message says which.
    """
    refuse_unknown_keys(source, KEYS, "what is observed")
    settings = source.get("settings")
    if not isinstance(settings, dict) or not settings:
        raise ConfigError(f"settings must hold labelled configurations, got {settings!r}")
    seeds, shadows = source.get("seeds", [0]), source.get("shadows", 16)
    if not isinstance(seeds, list) or not seeds or any(type(seed) is not int for seed in seeds):
        raise ConfigError(f"seeds must be a list of whole numbers, got {seeds!r}")
    if type(shadows) is not int or not 2 <= shadows <= 1000:
        raise ConfigError(f"shadows must be a whole number from 2 to 1000, got {shadows!r}")
    configs = {
        (str(label), task): _resolve(
            (source.get("base") or {}, source.get(task) or {}, options or {}), str(label), task
        )
        for label, options in settings.items()
        for task in TASKS
    }
    return LeakagePlan(configs, tuple(seeds), shadows, dict(source))


def _resolve(layers: tuple[Section, ...], label: str, task: str) -> Config:
    try:
        return schema().resolve(schema().merge(*layers))
    except ConfigError as error:
        raise ConfigError(f"setting {label!r}, task {task}: {error}") from error
