"""Accuracies that pFedMoAP's paper reports (Luo et al., ICLR 2025, arXiv 2410.10114), in per cent.

Rows of methods and columns of tasks as in the comparison files of the same tables. Tables 3, 4 and
8 are no anchors: the released loader has its class names in random order, which puts zero-shot at
chance; a correct run should score far higher.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A published accuracy in per cent.

    Attributes:
        mean: Its mean over three seeds.
        std: Its published spread; ``None`` where none is.
    """

    mean: float
    std: float | None


@dataclass(frozen=True)
class PublishedTable:
    """One table of the paper.

    Attributes:
        title: What it shows.
        figures: By (task, method); a task may be a column such as a domain.
        anchor: Whether a correct run should agree with it.
        by_domain: Whether its columns are the domains of one task, and their average.
    """

    title: str
    figures: Mapping[tuple[str, str], Figure]
    anchor: bool = True
    by_domain: bool = False


def _rows(columns: str, text: str) -> dict[tuple[str, str], Figure]:
    """Read lines ``method | mean std | mean | ...`` under columns separated by bars."""
    tasks = [task.strip() for task in columns.split("|")]
    figures = {}
    for line in text.strip().splitlines():
        method, *cells = (cell.strip() for cell in line.split("|"))
        for task, cell in zip(tasks, cells, strict=True):
            mean, *std = (float(number) for number in cell.split())
            figures[task, method] = Figure(mean, std[0] if std else None)
    return figures


PHOTOGRAPHS = "Flowers102 | OxfordPets | Food101 | Caltech101 | DTD"
_PRIVATE = " | ".join(f"{task.strip()}, eps=%d" for task in PHOTOGRAPHS.split("|"))
_MAIN = "98.41 0.04 | 99.06 0.09 | 93.39 0.09 | 97.95 0.07 | 89.13 0.54"

TABLES: Mapping[str, PublishedTable] = {
    "1": PublishedTable(
        "five photograph sets, classes of their own",
        _rows(
            PHOTOGRAPHS,
            f"""
            ZS-CLIP | 62.17 0.12 | 84.47 0.01 | 75.27 0.05 | 85.14 0.24 | 40.21 0.12
            CoOp | 70.14 0.76 | 83.21 1.30 | 70.43 2.42 | 87.37 0.44 | 44.23 0.63
            PromptFL | 72.80 1.14 | 90.79 0.61 | 77.31 1.64 | 89.70 1.99 | 54.11 0.22
            PromptFL+FT | 72.31 0.91 | 91.23 0.50 | 77.16 1.56 | 89.70 0.25 | 53.74 1.36
            Prompt+FedPer | 72.11 1.35 | 89.50 1.62 | 71.29 1.87 | 86.72 1.45 | 50.23 0.82
            Prompt+FedProx | 66.40 0.29 | 89.24 0.41 | 76.24 1.94 | 89.41 0.55 | 44.26 1.11
            Prompt+FedAMP | 69.10 0.13 | 80.21 0.44 | 74.48 1.71 | 87.31 1.60 | 47.16 0.92
            pFedPrompt | 86.46 0.15 | 91.84 0.41 | 92.26 1.34 | 96.54 1.31 | 77.14 0.09
            FedOTP | 96.23 0.44 | 98.82 0.11 | 92.73 0.15 | 97.02 0.36 | 87.64 0.70
            pFedMoAP lambda=0 | 97.61 0.11 | 94.83 0.65 | 86.71 0.15 | 95.71 0.37 | 85.64 0.34
            pFedMoAP | {_MAIN}
            """,
        ),
    ),
    "2": PublishedTable(
        "CIFAR, 100 clients by Dir(0.5)",
        _rows(
            "CIFAR10 | CIFAR100",
            """
            ZS-CLIP | 53.46 0.21 | 32.68 0.00
            CoOp | 80.84 0.39 | 48.74 0.17
            PromptFL | 73.29 0.37 | 45.00 0.62
            Prompt+FedProx | 73.32 0.34 | 45.63 0.75
            pFedMoAP | 83.46 0.53 | 53.42 0.22
            """,
        ),
    ),
    "3": PublishedTable(
        "DomainNet by domain",
        _rows(
            "clipart | infograph | painting | quickdraw | real | sketch | average",
            """
            ZS-CLIP | 9.18 | 10.03 | 9.93 | 10.25 | 9.90 | 9.54 | 9.81 0.30
            CoOp | 43.84 | 45.72 | 29.94 | 36.83 | 31.64 | 33.97 | 36.99 0.79
            PromptFL | 27.63 | 27.69 | 21.62 | 23.45 | 20.62 | 25.90 | 24.48 12.52
            Prompt+FedProx | 22.23 | 21.75 | 18.58 | 19.40 | 17.17 | 22.49 | 20.27 11.83
            pFedMoAP | 47.49 | 46.73 | 32.74 | 37.16 | 31.02 | 37.67 | 38.80 0.11
            """,
        ),
        anchor=False,
        by_domain=True,
    ),
    "4": PublishedTable(
        "Office-Caltech10 by domain",
        _rows(
            "amazon | caltech | dslr | webcam | average",
            """
            ZS-CLIP | 9.83 | 10.67 | 10.89 | 6.20 | 9.40 0.77
            CoOp | 30.29 | 35.88 | 29.89 | 33.43 | 32.37 1.81
            PromptFL | 21.08 | 23.72 | 22.94 | 25.88 | 23.41 9.06
            Prompt+FedProx | 18.64 | 19.56 | 20.89 | 22.96 | 20.51 8.48
            pFedMoAP | 35.47 | 37.45 | 45.11 | 35.22 | 38.31 1.21
            """,
        ),
        anchor=False,
        by_domain=True,
    ),
    "6": PublishedTable(
        "noise on the uploads, delta 0.05",
        _rows(
            _PRIVATE.replace("%d", "50"),
            """
            PromptFL | 67.07 0.60 | 88.05 0.32 | 77.41 0.60 | 84.83 0.42 | 38.39 1.25
            Prompt+FedProx | 66.22 0.63 | 87.78 0.61 | 77.27 0.59 | 84.68 0.64 | 39.43 1.11
            pFedMoAP | 98.34 0.06 | 99.08 0.02 | 93.36 0.04 | 97.90 0.08 | 89.99 0.49
            """,
        )
        | _rows(
            _PRIVATE.replace("%d", "25"),
            """
            PromptFL | 64.25 1.10 | 86.26 0.86 | 76.84 0.66 | 85.00 1.59 | 38.19 0.66
            Prompt+FedProx | 62.87 0.99 | 86.82 0.47 | 76.21 0.64 | 84.51 1.52 | 37.82 0.52
            pFedMoAP | 98.36 0.12 | 99.02 0.04 | 93.41 0.13 | 97.99 0.06 | 89.11 0.28
            """,
        ),
    ),
    "7": PublishedTable(
        "other gates",
        _rows(
            PHOTOGRAPHS,
            f"""
            linear gate, 3 experts | 86.92 1.84 | 90.54 1.33 | 78.19 3.07 | 89.59 1.46 | 61.42 5.43
            linear gate, 10 experts | 69.64 4.57 | 52.78 6.88 | 77.39 3.29 | 86.57 1.96 | 30.42 7.14
            averaged gate | 97.56 0.07 | 98.24 0.12 | 91.89 0.19 | 96.17 0.18 | 87.52 0.69
            pFedMoAP | {_MAIN}
            """,
        ),
    ),
    "8": PublishedTable(
        "DomainNet by number of experts",
        _rows(
            "DomainNet",
            """
            5 experts | 38.63 0.29
            10 experts | 38.71 0.45
            15 experts | 38.77 0.38
            20 experts | 38.80 0.11
            25 experts | 38.86 0.43
            30 experts | 38.85 0.43
            """,
        ),
        anchor=False,
    ),
    "9": PublishedTable(
        "width of the gate",
        _rows(
            PHOTOGRAPHS,
            f"""
            width 32 | 97.28 0.18 | 98.75 0.18 | 93.42 0.08 | 97.37 0.08 | 88.61 0.89
            width 64 | 98.55 0.10 | 98.91 0.10 | 93.89 0.12 | 97.75 0.12 | 89.96 0.09
            width 128 | {_MAIN}
            width 256 | 99.01 0.05 | 98.88 0.21 | 92.49 0.20 | 97.93 0.07 | 90.88 0.16
            width 512 | 98.18 0.38 | 96.85 0.22 | 90.34 0.31 | 96.99 0.11 | 89.65 0.10
            width 1024 | 98.11 0.33 | 95.81 0.84 | 89.20 0.37 | 96.82 0.26 | 89.03 0.14
            """,
        ),
    ),
}
