"""Estimate the cost of reproducing a published table, before anything is downloaded or run.

Sizes of data sets are the published ones. Time is arithmetic over a rate of sustained computation:
an image costs its tower's operations once; a training step costs three passes of ``1 + L`` prefix
tokens and about four tokens a class through the text tower, and frozen experts cost one pass a
round. Bytes are prompts times their size, up and down, at most (newcomers get no experts).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from eval.comparison.spec import Cell, Comparison
from pfedmoap.config.schema import Section

OWN_TOKENS = 4  # of a class: its name, the full stop, the end token
TEXT_WIDTH, TEXT_LAYERS = 512, 12  # of CLIP RN50 and ViT-B/16
TOKEN_OPERATIONS = 24 * TEXT_WIDTH**2 * TEXT_LAYERS
IMAGE_OPERATIONS = {"RN50": 12.2e9, "ViT-B-32": 8.8e9, "ViT-B-16": 35.1e9, "ViT-L-14": 162e9}
OPERATIONS_PER_SECOND = 1e11
"""About what one core of a recent processor sustains; a data-centre GPU has 200 times that."""

NEITHER_UP_NOR_DOWN = frozenset(("zero_shot", "local_coop"))


@dataclass(frozen=True)
class Size:
    """Published counts of a data set.

    Attributes:
        classes: Number of classes.
        train: Training images.
        test: Test images.
        domains: Number of domains; 1 where there are none.
    """

    classes: int
    train: int
    test: int
    domains: int = 1


SIZES: Mapping[str, Size] = {
    "oxford_pets": Size(37, 3680, 3669),
    "flowers102": Size(102, 2040, 6149),
    "food101": Size(101, 75750, 25250),
    "caltech101": Size(100, 5769, 2473),
    "dtd": Size(47, 3760, 1880),
    "cifar10": Size(10, 50000, 10000),
    "cifar100": Size(100, 50000, 10000),
    "domainnet": Size(10, 11900, 5100, 6),  # ten 345ths of the whole, for its exact count varies
    "office_caltech10": Size(10, 1773, 760, 4),
    "split_zhou_OxfordPets.json": Size(37, 2944, 3669),
    "split_zhou_OxfordFlowers.json": Size(102, 4093, 2463),
    "split_zhou_Food101.json": Size(101, 50500, 30300),
    "split_zhou_Caltech101.json": Size(100, 4128, 2465),
    "split_zhou_DescribableTextures.json": Size(47, 2820, 1692),
}


@dataclass(frozen=True)
class RunPlan:
    """What one method on one task takes, for one seed.

    Attributes:
        task: Label of the task.
        method: Label of the method.
        seeds: How many cells of this kind there are.
        rounds: Communication rounds.
        clients: Number of clients.
        cohort: Clients of one round.
        down_bytes: To all clients in all rounds.
        up_bytes: From all clients in all rounds.
        train_seconds: Estimated, for all rounds.
    """

    task: str
    method: str
    seeds: int
    rounds: int
    clients: int
    cohort: int
    down_bytes: int
    up_bytes: int
    train_seconds: float


@dataclass(frozen=True)
class EncodingPlan:
    """Which images of a task are encoded, for all seeds and methods together.

    Attributes:
        task: Label of the task.
        images: Number of encoded images and views.
        seconds: Estimated.
    """

    task: str
    images: int
    seconds: float


def plan_runs(comparison: Comparison, rate: float = OPERATIONS_PER_SECOND) -> list[RunPlan]:
    """Plan every method on every task; see the module for the formulas.

    Args:
        comparison: The table's comparison.
        rate: Operations per second that the machine sustains.

    Returns:
        One plan for each pair, in the comparison's order.
    """
    seeds = len({cell.seed for cell in comparison.cells})
    first = comparison.cells[0].seed
    return [_run(cell, seeds, rate) for cell in comparison.cells if cell.seed == first]


def plan_encoding(
    comparison: Comparison, rate: float = OPERATIONS_PER_SECOND
) -> list[EncodingPlan]:
    """Plan the image encoding of every task; a task with the same images as another has none."""
    plans: list[EncodingPlan] = []
    encoded: set[str] = set()
    for task in comparison.tasks:
        cells = [cell for cell in comparison.cells if cell.task == task]
        config = cells[0].config.sections
        key = repr([config[part] for part in ("data", "backbone", "sampling", "features")])
        if key in encoded:
            plans.append(EncodingPlan(task, 0, 0.0))
            continue
        encoded.add(key)
        size, train, views = _size(config), _train_images(config), config["features"]["views"]
        drawn_anew = config["sampling"]["shots"] is not None
        draws = len({cell.seed for cell in cells}) if drawn_anew else 1
        images = size.test + draws * train * (1 + views)
        operations = IMAGE_OPERATIONS.get(config["backbone"]["model"], 1e9)
        plans.append(EncodingPlan(task, images, images * operations / rate))
    return plans


def _run(cell: Cell, seeds: int, rate: float) -> RunPlan:
    config = cell.config.sections
    size, method, rounds = _size(config), config["method"], config["rounds"]
    clients = _clients(config, size)
    cohort = max(1, round(clients * rounds["participation"]))
    length = method.get("context_length", 16)
    prompt_bytes = length * TEXT_WIDTH * (2 if rounds["wire"] == "float16" else 4)
    silent = method["name"] in NEITHER_UP_NOR_DOWN
    experts = min(method.get("experts", 0), clients - 1)
    exchanged = 0 if silent else cohort * rounds["rounds"] * prompt_bytes
    seconds = _train_operations(config, size, clients, cohort, experts) / rate
    return RunPlan(
        task=cell.task,
        method=cell.method,
        seeds=seeds,
        rounds=rounds["rounds"],
        clients=clients,
        cohort=cohort,
        down_bytes=(1 + experts) * exchanged,
        up_bytes=exchanged,
        train_seconds=seconds,
    )


def _train_operations(
    config: Mapping[str, Section], size: Size, clients: int, cohort: int, experts: int
) -> float:
    method, training = config["method"], config["training"]
    if method["name"] == "zero_shot":
        return 0.0
    tokens = 1 + method.get("context_length", 16) + size.classes * OWN_TOKENS
    each = _train_images(config) / clients
    steps = cohort * training["epochs"] * ceil(each / training["batch_size"])
    frozen = min(clients, cohort * experts)
    one_round = (3 * steps + frozen) * tokens * TOKEN_OPERATIONS
    return float(config["rounds"]["rounds"] * one_round)


def _size(config: Mapping[str, Section]) -> Size:
    data = config["data"]
    split = str(data.get("split_file") or "").rpartition("/")[2]
    return SIZES.get(split) or SIZES.get(data["name"]) or Size(10, 1000, 1000)


def _train_images(config: Mapping[str, Section]) -> int:
    size, shots = _size(config), config["sampling"]["shots"]
    return size.train if shots is None else min(size.train, shots * size.classes * size.domains)


def _clients(config: Mapping[str, Any], size: Size) -> int:  # options of any type
    partition = config["partition"]
    if "clients_per_domain" in partition:
        return int(partition["clients_per_domain"]) * size.domains
    return int(partition["clients"])
