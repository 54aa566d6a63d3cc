"""What can be chosen in a sweep's file: how points are found, where trials run, what is best."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from jsonargparse import ArgumentParser

from pfedmoap.config.bounds import Count, Fraction, Positive, Whole, check_section
from pfedmoap.config.exact_options import parse_sections
from pfedmoap.errors import ConfigError

T = TypeVar("T")

Metric = Literal[
    "mean",
    "weighted_mean",
    "worst_decile",
    "jain",
    "macro_f1",
    "global_mean",
    "global_union",
]
"""Figures of `eval.accuracy.Summary` of which more is better."""


@dataclass(frozen=True)
class GridSearch:
    """Every combination of the listed values."""


@dataclass(frozen=True)
class OptunaSearch:
    """Points that Optuna draws.

    What is drawn depends on the file and on the results so far, and not on which worker was
    first: points are drawn ``at_once``, and the next ones when all of them are done.

    Attributes:
        trials: How many points.
        sampler: ``tpe`` (tree-structured Parzen estimator) or ``random``.
        seed: Of the draws.
        at_once: Points that are drawn together, before their results are known.
    """

    trials: Count
    sampler: Literal["tpe", "random"] = "tpe"
    seed: int = 0
    at_once: Count = 4


@dataclass(frozen=True)
class HereOptions:
    """One trial after another, in this process."""


@dataclass(frozen=True)
class LocalOptions:
    """Processes on this machine.

    Attributes:
        workers: How many run at once.
        threads: Threads of each; none shares the machine's cores among them.
    """

    workers: Count = 2
    threads: Count | None = None


@dataclass(frozen=True)
class SlurmOptions:
    """Jobs on a cluster, through submitit; each is one seed of one trial.

    Attributes:
        cluster: ``slurm``; ``local`` runs the same jobs as processes of this machine, and
            ``debug`` in this process, to try a file.
        at_once: Jobs of the array that run at once.
        timeout_min: Minutes for a job; one that takes longer is submitted again, and goes on.
        mem_gb: Memory of a job; none leaves it to the cluster.
        cpus_per_task: Cores of a job, and its threads.
        gpus_per_node: GPUs of a job.
        partition: Slurm's partition.
        account: Slurm's account.
        qos: Slurm's quality of service.
        setup: Shell commands before the job, such as those that load modules.
        parameters: Further options of ``sbatch``, by name.
    """

    cluster: Literal["slurm", "local", "debug"] = "slurm"
    at_once: Count = 16
    timeout_min: Count = 60
    mem_gb: Positive | None = None
    cpus_per_task: Count = 1
    gpus_per_node: Whole = 0
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    setup: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ChosenBy:
    """What the best trial is chosen by.

    Attributes:
        validation: Share of each client's training images that is held out.
        metric: The figure.
    """

    validation: Fraction = 0.25
    metric: Metric = "mean"


SEARCHES: Mapping[str, type] = {"grid": GridSearch, "optuna": OptunaSearch}
EXECUTORS: Mapping[str, type] = {
    "here": HereOptions,
    "local": LocalOptions,
    "slurm": SlurmOptions,
}


def choice(given: object, kinds: Mapping[str, type], what: str) -> Any:  # one of the kinds
    """Make the options of one of several kinds.

    Args:
        given: Its name, or a mapping of ``name`` and options.
        kinds: Classes of options by name.
        what: What is chosen, for messages.

    Raises:
        ConfigError: There is no such kind, or an option is wrong.
    """
    options = {"name": given} if isinstance(given, str) else given
    if not isinstance(options, dict) or options.get("name") not in kinds:
        raise ConfigError(
            f"{what} must name one of {', '.join(kinds)}, alone or as {{name: ...}} with options, "
            f"got {given!r}"
        )
    rest = {key: value for key, value in options.items() if key != "name"}
    return checked_options(kinds[options["name"]], what, rest)


def checked_options(kind: type[T], what: str, options: Mapping[str, Any]) -> T:
    """Make an object of a class of options, whose names, types and ranges are checked.

    Raises:
        ConfigError: One of them is wrong.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, what)
    check_section(kind, what, options, read=False)
    checked = parse_sections(parser, {what: dict(options)}).as_dict().get(what) or {}
    check_section(kind, what, checked, read=True)
    return kind(**checked)
