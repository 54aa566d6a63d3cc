"""What an exported model may tell of the data that it was trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pfedmoap.contract.folding import Folded, fold
from pfedmoap.exported.of_run import PersonalModel

_OTHERS = (
    "It also holds class features made of prompts of other clients of the federation ({who}), as "
    "they were served to this one."
)


@dataclass(frozen=True)
class Coverage:
    """Whether a run's guarantee covers a model that is given away.

    Attributes:
        covered: Whether it does.
        paragraphs: The statement, for people.
        caution: One sentence where it does not; ``None`` where it does.
    """

    covered: bool
    paragraphs: tuple[str, ...]
    caution: str | None


def coverage(model: PersonalModel, statement: Mapping[str, Any], epsilon: float) -> Coverage:
    """Say what a run's guarantee means for one client's model.

    A model is covered where it follows from what the server has made of noisy uploads alone, or
    where all that the client keeps was trained in the noisy steps of mode ``joint``. Every other
    client's model has parts that were trained without noise, which ``privacy.json`` leaves out.

    Args:
        model: The model.
        statement: The run's ``privacy.json``; empty where nothing is promised.
        epsilon: The largest that a client has spent.

    Returns:
        The statement.
    """
    folded = fold(model.method, model.download, model.local)
    others = ", ".join(str(client) for client in folded.experts)
    shared = (_OTHERS.format(who=f"clients {others}"),) if folded.experts else ()
    if not statement:
        text = (
            "The run that trained it gave no privacy guarantee. A model tells of the images that "
            "it was trained on: assume that who has it can find out whether an image was among "
            "them, and which classes the client has. Give it to those who may know that.",
        )
        return Coverage(False, (*text, *shared), "No privacy guarantee covers this model")
    mechanism = statement["mechanism"]
    promise = (
        f"The run was trained with `{mechanism['name']}`: epsilon {epsilon:.4g} spent of "
        f"{statement['epsilon_budget']:g} at delta {mechanism['delta']:g}, for "
        f"{statement['unit']} ({statement['neighbours']}). Private is: {statement['private']}."
    )
    caveats = tuple(f"CAUTION: {each}" for each in statement.get("caveats", ()))
    if not statement.get("is_private", False):
        caution = "The run that trained this model is marked as not private"
        return Coverage(False, (promise, *caveats, *shared), caution)
    if server_alone(model, folded):
        why = (
            "This model is covered by that: it follows from what the server has made of uploads "
            "with noise, and from nothing that stayed with a client."
        )
        return Coverage(True, (promise, why, *caveats, *shared), None)
    if str(mechanism["name"]).endswith("joint"):
        why = (
            "This model is covered by that: whatever in it was trained on the client's images was "
            "trained in the steps with noise."
        )
        return Coverage(True, (promise, why, *caveats, *shared), None)
    why = (
        "**This model is not covered by that**: parts of it were trained on the client's images "
        "without noise, and were meant to stay with the client. Give it to those who may know "
        "these images."
    )
    caution = "The run's privacy guarantee does not cover this model"
    return Coverage(False, (promise, why, *caveats, *shared), caution)


def server_alone(model: PersonalModel, folded: Folded) -> bool:
    """Whether a model is what the server would send to somebody who kept nothing."""
    if model.local is None:
        return True
    plain = fold(model.method, model.download, None)
    return (
        plain.kind == folded.kind
        and plain.options == folded.options
        and plain.arrays.keys() == folded.arrays.keys()
        and all(torch.equal(value, folded.arrays[name]) for name, value in plain.arrays.items())
    )
