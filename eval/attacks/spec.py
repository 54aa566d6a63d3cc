"""A table of attacks as a YAML file: methods x defences x attacks x shares of attackers x seeds.

``base`` holds options that all cells share; ``methods`` and ``defences`` hold partial
configurations by label; ``attacks`` names some of `ATTACKS`; ``shares`` are those of the hostile
clients. Each method and defence is run without attackers and at the share in the middle; at the
other shares only those defences that ``elsewhere`` names are, or all. What the others are measured
against is the first defence; ``recommended`` names the one that the page speaks for. Options of a
pool of experts are left out for methods that have none::

    base: {rounds: {rounds: 5}}
    methods: {PromptFL: {method: promptfl}}
    defences: {none: {}, median: {server: {aggregation: median}}}
    attacks: [nan, scale]
    shares: [0.1, 0.2, 0.4]
    seeds: [0, 1]
    recommended: median
    elsewhere: [none, median]
    target: 0
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eval.attacks.catalogue import ATTACKS, NONE
from eval.choices import schema
from eval.promise import is_private
from pfedmoap.config.exact_options import refuse_unknown_keys
from pfedmoap.config.schema import Config, Section
from pfedmoap.config.suggestions import none_such
from pfedmoap.contract.capabilities import ServesExperts
from pfedmoap.errors import ConfigError
from pfedmoap.storage.atomic_files import read_sections

KEYS = {"base", "methods", "defences", "attacks", "shares", "seeds", "recommended", "target"} | {
    "elsewhere"
}
SEEDED = ("partition", "few_shot", "training")


@dataclass(frozen=True)
class Case:
    """One run.

    Attributes:
        method: Label of the method.
        defence: Label of the defence.
        attack: Name of the attack, or `NONE`.
        share: Share of hostile clients; 0 without an attack.
        seed: Its seed.
        config: Its configuration.
    """

    method: str
    defence: str
    attack: str
    share: float
    seed: int
    config: Config = field(compare=False)


@dataclass(frozen=True)
class Plan:
    """A whole table.

    Attributes:
        configs: Configurations by method and defence.
        attacks: Names of the attacks.
        shares: Shares of hostile clients.
        seeds: Seeds.
        recommended: Label of the defence that the page speaks for.
        elsewhere: Defences that are run at other shares than the usual one.
        target: Class that backdoors aim at.
        source: What it was made from, as JSON.
    """

    configs: Mapping[tuple[str, str], Config]
    attacks: tuple[str, ...]
    shares: tuple[float, ...]
    seeds: tuple[int, ...]
    recommended: str
    elsewhere: tuple[str, ...]
    target: int
    source: Section

    @property
    def methods(self) -> tuple[str, ...]:
        """Labels of the methods in the order of the file."""
        return tuple(dict.fromkeys(method for method, _ in self.configs))

    @property
    def defences(self) -> tuple[str, ...]:
        """Labels of the defences in the order of the file; the first is the reference."""
        return tuple(dict.fromkeys(defence for _, defence in self.configs))

    @property
    def situations(self) -> tuple[tuple[str, float], ...]:
        """Attacks with their shares of hostile clients; the first is none of them."""
        hostile = ((attack, share) for share in self.shares for attack in self.attacks)
        return ((NONE, 0.0), *hostile)

    def defences_at(self, share: float) -> tuple[str, ...]:
        """The defences that are run at a share of hostile clients."""
        everywhere = share in (0.0, usual_share(self.shares))
        return self.defences if everywhere else self.elsewhere

    def cases(self) -> Iterator[Case]:
        """All runs, ordered so that neighbours share data and each seed's reference comes first."""
        for seed in self.seeds:
            for method in self.methods:
                for attack, share in self.situations:
                    for defence in self.defences_at(share):
                        config = self.configs[method, defence]
                        seeds = dict.fromkeys(SEEDED, seed)
                        own = replace(config, sections={**config.sections, "seeds": seeds})
                        yield Case(method, defence, attack, share, seed, own)

    def __len__(self) -> int:
        runs = sum(len(self.defences_at(share)) for _, share in self.situations)
        return runs * len(self.methods) * len(self.seeds)


def usual_share(shares: Sequence[float]) -> float:
    """The share of attackers that a defence is chosen for: the one in the middle."""
    return sorted(shares)[(len(shares) - 1) // 2]


def read_plan(path: Path) -> Plan:
    """Read a file of attacks.

    Raises:
        ConfigError: The file cannot be read, or is wrong; see `plan_of`.
    """
    return plan_of(read_sections(path))


def plan_of(source: Mapping[str, Any]) -> Plan:
    """Resolve every configuration, so that a mistake is known before the first run.

    Args:
        source: The file's content.

    Raises:
        ConfigError: A key is unknown or missing, or a value is wrong; the message says which.
    """
    refuse_unknown_keys(source, KEYS, "a table of attacks")
    base = source.get("base") or {}
    methods, defences = (_labelled(source, key) for key in ("methods", "defences"))
    attacks = _listed(source, "attacks", list(ATTACKS))
    if wrong := [attack for attack in attacks if attack not in ATTACKS]:
        raise ConfigError(none_such("attack", wrong[0], ATTACKS))
    shares = _listed(source, "shares", [0.2])
    if wrong := [s for s in shares if type(s) is not float or not 0 < s < 1]:
        raise ConfigError(f"shares must be numbers between 0 and 1, such as 0.2, got {wrong[0]!r}")
    seeds = _listed(source, "seeds", [0])
    if wrong := [seed for seed in seeds if type(seed) is not int]:
        raise ConfigError(f"seeds must be whole numbers, got {wrong[0]!r}")
    recommended = source.get("recommended", list(defences)[-1])
    if recommended not in defences:
        known = ", ".join(defences)
        raise ConfigError(f"recommended {recommended!r} is no defence; there are: {known}")
    elsewhere = _listed(source, "elsewhere", list(defences))
    if not {next(iter(defences)), recommended} <= set(elsewhere) <= set(defences):
        raise ConfigError(
            f"elsewhere must name defences, the first and the recommended one among them, got "
            f"{elsewhere!r}; there are: {', '.join(defences)}"
        )
    target = source.get("target", 0)
    if type(target) is not int or target < 0:
        raise ConfigError(f"target must be the number of a class, at least 0, got {target!r}")
    configs = {
        (method, defence): _resolve((base, methods[method], defences[defence]), method, defence)
        for method in methods
        for defence in defences
    }
    return Plan(
        configs,
        tuple(attacks),
        tuple(shares),
        tuple(seeds),
        str(recommended),
        tuple(elsewhere),
        target,
        dict(source),
    )


def _resolve(layers: tuple[Section, ...], method: str, defence: str) -> Config:
    try:
        merged = schema().merge(*layers)
        kind = schema().choices["method"].get(merged.get("method", {}).get("name", ""))
        if kind is not None and not issubclass(kind, ServesExperts):
            merged.pop("pool", None)  # a defence is the same for all methods
        config = schema().resolve(merged)
    except ConfigError as error:
        raise ConfigError(f"method {method!r}, defence {defence!r}: {error}") from error
    if is_private(config.sections):
        raise ConfigError(
            f"method {method!r}, defence {defence!r}: its results are private; a table of attacks "
            "is for runs with privacy none"
        )
    return config


def _labelled(source: Mapping[str, Any], key: str) -> dict[str, Section]:
    entries = source.get(key)
    if not isinstance(entries, dict) or not entries:
        raise ConfigError(f"{key} must hold at least one labelled configuration, got {entries!r}")
    found: dict[str, Section] = {}
    for label, options in entries.items():
        if not isinstance(options or {}, dict) or "seeds" in (options or {}):
            raise ConfigError(
                f"{key}.{label} must hold sections of options, without seeds, got {options!r}"
            )
        found[str(label)] = options or {}
    return found


def _listed(source: Mapping[str, Any], key: str, default: list[Any]) -> list[Any]:
    """Read a list of different values of any type."""
    found = source.get(key, default)
    if not isinstance(found, list) or not found or len(set(map(str, found))) != len(found):
        raise ConfigError(f"{key} must be a list of different values, got {found!r}")
    return found
