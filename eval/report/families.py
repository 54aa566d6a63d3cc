"""Families of methods: what a comparison's panels are divided by."""

from collections.abc import Mapping

OUTSIDE = "From outside the package"

_FAMILIES: Mapping[str, tuple[str, ...]] = {
    "Without a federation": ("zero_shot", "local_coop"),
    "One model for all": (
        "promptfl",
        "fedprox",
        "fedkgcoop",
        "fedprograd",
        "fedclip",
        "fedtpg",
    ),
    "Personal parts": (
        "promptfl_ft",
        "fedper",
        "fedrep",
        "fedamp",
        "fedotp",
        "fedpgp",
        "pfedprompt",
        "promptfolio",
        "dpfpl",
    ),
    "Mixtures of experts": ("pfedmoap", "evidence_mixture"),
    "Sets of prompts": (
        "pfpt",
        "fedavg_pt",
        "fedprox_pt",
        "scaffold_pt",
        "fedopt_pt",
        "gmm_pt",
    ),
    "Model not at the client": ("fed_bbpt", "fedsp"),
}


def family_of(method: str) -> str:
    """The family of a method by its name in configurations; `OUTSIDE` for a file of one's own.

    Example:
        >>> family_of("pfedmoap")
        'Mixtures of experts'
    """
    return next((family for family, names in _FAMILIES.items() if method in names), OUTSIDE)


def families() -> list[str]:
    """All families, in the order in which they are shown."""
    return [*_FAMILIES, OUTSIDE]
