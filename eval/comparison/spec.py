"""A comparison as a YAML file: methods x tasks x seeds, each cell a whole configuration.

``base`` holds options that all cells share; ``tasks`` and ``methods`` hold partial configurations
by label; ``seeds`` are for partition, few shots and training alike; paired differences are against
the ``reference``, the first method where none is named, in the accuracy of ``clients`` or, for
methods whose result is one model, in that of the ``global`` one::

    base: {rounds: {rounds: 10}}
    tasks: {digits: {data: digits, partition: {name: dirichlet, alpha: 0.1}}}
    methods: {PromptFL: {method: promptfl}, gate alone: {method: {name: pfedmoap, experts: 0}}}
    seeds: [0, 1, 2]
    reference: PromptFL
    differences: clients
    elsewhere: {Pets: {name: oxford_pets, root: data}}

``elsewhere`` names data sets that every model is tested on as well, with their own classes (the
cross-dataset protocol). Base to new (`sampling.classes: base`) and leave one domain out
(`sampling.left_out_domain`) are options of tasks.

``only`` restricts a task to some methods, by its label: ``only: {digits: [PromptFL]}``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from eval.choices import training_schema
from pfedmoap.config.exact_options import refuse_unknown_keys
from pfedmoap.config.schema import Config, Section
from pfedmoap.config.suggestions import none_such
from pfedmoap.errors import ConfigError
from pfedmoap.storage.atomic_files import read_sections

KEYS = {"base", "tasks", "methods", "seeds", "reference", "differences", "elsewhere", "only"}
SEEDED = ("partition", "few_shot", "training")

Models = Literal["clients", "global"]


@dataclass(frozen=True)
class Cell:
    """One run of a comparison.

    Attributes:
        task: Label of its task.
        method: Label of its method.
        seed: Its seed.
        config: Its configuration.
        folder: Its run directory inside the comparison's folder.
    """

    task: str
    method: str
    seed: int
    config: Config
    folder: Path


@dataclass(frozen=True)
class Comparison:
    """A whole comparison.

    Attributes:
        cells: Its runs, ordered so that neighbours share data: task, then seed, then method.
        reference: Label of the method that the others are paired with.
        differences: Whose accuracy is compared with the reference's: the personal models',
            client by client, or the global model's.
        source: What it was made from, as JSON.
        elsewhere: Other data sets to test on, by label.
    """

    cells: tuple[Cell, ...]
    reference: str
    differences: Models
    source: Section
    elsewhere: Mapping[str, Section] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Task labels in the order of the file."""
        return tuple(dict.fromkeys(cell.task for cell in self.cells))

    @property
    def methods(self) -> tuple[str, ...]:
        """Method labels in the order of the file."""
        return tuple(dict.fromkeys(cell.method for cell in self.cells))


def read_comparison(path: Path) -> Comparison:
    """Read a comparison file.

    Raises:
        ConfigError: The file cannot be read or is no comparison; see `comparison`.
    """
    return comparison(read_sections(path))


def comparison(source: Mapping[str, Any]) -> Comparison:
    """Resolve every cell, so that a mistake is known before the first one runs.

    Args:
        source: The file's content.

    Returns:
        The comparison.

    Raises:
        ConfigError: A key is unknown or missing, two labels would share a folder, or a cell's
            configuration is wrong; the message names the cell.
    """
    refuse_unknown_keys(source, KEYS, "a comparison")
    base = _section(source.get("base") or {}, "base")
    methods = _labelled(source.get("methods"), "methods")
    tasks = _labelled(source.get("tasks") or {"default": {}}, "tasks")
    seeds = source.get("seeds", [0])
    whole = isinstance(seeds, list) and all(type(seed) is int for seed in seeds)
    if not whole or not seeds or len(set(seeds)) != len(seeds):
        raise ConfigError(f"seeds must be a list of different whole numbers, got {seeds!r}")
    reference = source.get("reference", next(iter(methods)))
    if reference not in methods:
        raise ConfigError(f"reference: {none_such('method', reference, methods)}")
    differences = source.get("differences", "clients")
    if differences not in get_args(Models):
        raise ConfigError(f"differences must be clients or global, got {differences!r}")
    only = _only(source.get("only") or {}, tasks, methods)
    pairs = [(task, method) for task in tasks for method in methods if method in only[task]]
    configs = {(t, m): _resolve((base, tasks[t], methods[m]), t, m) for t, m in pairs}
    cells = tuple(
        Cell(
            task,
            method,
            seed,
            _with_seed(configs[task, method], seed),
            folder_of(task, method, seed),
        )
        for task in tasks
        for seed in seeds
        for method in methods
        if method in only[task]
    )
    elsewhere = _elsewhere(source.get("elsewhere"))
    return Comparison(cells, str(reference), differences, dict(source), elsewhere)


def _elsewhere(entries: object) -> dict[str, Section]:
    """Other data sets by label; a name alone is short for it."""
    if entries is None:
        return {}
    named = entries
    if isinstance(entries, dict):
        named = {label: {"name": v} if isinstance(v, str) else v for label, v in entries.items()}
    found = _labelled(named, "elsewhere")
    for label, section in found.items():
        try:
            found[label] = training_schema().resolve({"data": section}).sections["data"]
        except ConfigError as error:
            raise ConfigError(f"elsewhere.{label}: {error}") from error
    return found


def _only(
    given: object, tasks: Mapping[str, Section], methods: Mapping[str, Section]
) -> dict[str, list[str]]:
    """The methods that each task is run with."""
    wrong = f"only must hold lists of methods by task, got {given!r}"
    if not isinstance(given, dict) or not set(given) <= set(tasks):
        raise ConfigError(wrong)
    if not all(
        isinstance(one, list) and one and set(one) <= set(methods) for one in given.values()
    ):
        raise ConfigError(wrong)
    return {task: given.get(task, list(methods)) for task in tasks}


def folder_of(task: str, method: str, seed: int) -> Path:
    """Where a cell's run is, inside the comparison's folder."""
    return Path("cells") / slug(task) / slug(method) / f"seed{seed}"


def slug(label: str) -> str:
    """Turn a label into a folder's name."""
    return "-".join("".join(c if c.isalnum() or c in "._=" else " " for c in label).lower().split())


def _resolve(layers: tuple[Section, ...], task: str, method: str) -> Config:
    try:
        return training_schema().resolve(training_schema().merge(*layers))
    except ConfigError as error:
        raise ConfigError(f"task {task!r}, method {method!r}: {error}") from error


def _with_seed(config: Config, seed: int) -> Config:
    return replace(config, sections={**config.sections, "seeds": dict.fromkeys(SEEDED, seed)})


def _labelled(entries: object, what: str) -> dict[str, Section]:
    if not isinstance(entries, dict) or not entries:
        raise ConfigError(f"{what} must hold at least one labelled configuration, got {entries!r}")
    found = {
        str(label): _section(options or {}, f"{what}.{label}") for label, options in entries.items()
    }
    slugs = [slug(label) for label in found]
    if clashing := sorted({name for name in slugs if slugs.count(name) > 1 or not name}):
        raise ConfigError(f"labels in {what} give the same or no folder name: {clashing}")
    return found


def _section(options: object, where: str) -> Section:
    if not isinstance(options, dict):
        raise ConfigError(f"{where} must hold sections of options, got {options!r}")
    if "seeds" in options:
        raise ConfigError(f"{where} sets seeds, but the list `seeds` of the comparison does")
    return options
