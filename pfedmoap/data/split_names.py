"""Common names of the training, test and validation parts of a data set.

A part for validation is never trained on. Where there is no part for testing it takes that place;
beside one it is not used at all, since nothing here chooses by it.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

logger = logging.getLogger(__name__)

Role = Literal["train", "test", "validation"]
Use = Literal["train", "test", "unused"]

_ROLES: Mapping[Role, tuple[str, ...]] = {
    "train": ("train", "training", "trn", "trainval"),
    "test": ("test", "testing", "tst"),
    "validation": (
        "val",
        "valid",
        "validation",
        "validate",
        "dev",
        "development",
        "eval",
        "evaluation",
        "holdout",
        "heldout",
    ),
}
_FILLERS = frozenset(
    (
        "set",
        "sets",
        "data",
        "dataset",
        "split",
        "part",
        "fold",
        "folder",
        "seg",
        "images",
        "image",
        "imgs",
        "img",
        "pictures",
        "photos",
        "samples",
    )
)


def roles_of(names: Iterable[str]) -> dict[str, Role]:
    """Find parts' roles by their names, in any case: ``Testing``, ``val2017``, ``training_set``.

    Words that all names have in common are ignored: ``alphabet_train`` beside ``alphabet_test``.

    Examples:
        >>> roles_of(["Training", "alphabet_test", "photo"])
        {'Training': 'train'}
        >>> roles_of(["alphabet_train", "alphabet_test"])
        {'alphabet_test': 'test', 'alphabet_train': 'train'}

    Args:
        names: Folders beside each other, or all values of a column.

    Returns:
        Roles by name, sorted; names that are no usual names of a part are left out.
    """
    words = {name: _words(name) for name in sorted(set(names))}
    common = set.intersection(*map(set, words.values())) if len(words) > 1 else set()
    roles = {name: _role([w for w in own if w not in common]) for name, own in words.items()}
    return {name: role for name, role in roles.items() if role is not None}


def uses_of(roles: Mapping[str, Role]) -> dict[str, Use]:
    """Decide what each part is used for.

    Args:
        roles: Roles by name.

    Returns:
        By name: ``train`` is trained on, ``test`` is tested on, ``unused`` neither.
    """
    tested: Role = "test" if "test" in roles.values() else "validation"
    return {
        name: "train" if role == "train" else "test" if role == tested else "unused"
        for name, role in roles.items()
    }


def report_uses(where: object, uses: Mapping[str, Use], counts: Mapping[str, int]) -> None:
    """Log the parts' uses, unless they are named ``train`` and ``test``, as documented.

    Args:
        where: The folder or file.
        uses: What each part is used for, by name.
        counts: Number of its images.
    """
    if all(name == use for name, use in uses.items()):
        return
    words = {"train": "is trained on", "test": "is tested on", "unused": "is not used"}
    parts = ", ".join(f"{name} ({counts[name]} images) {words[use]}" for name, use in uses.items())
    logger.warning("%s is divided by its own names: %s", where, parts)


def _words(name: str) -> list[str]:
    return [word for word in re.findall(r"[a-z]+", name.lower()) if word not in _FILLERS]


def _role(words: Sequence[str]) -> Role | None:
    """The one role of all words; VOC's ``train_val`` is trained on."""
    if sorted(words) == ["train", "val"]:
        return "train"
    roles = {_role_of_word(word) for word in words}
    return roles.pop() if len(roles) == 1 else None


def _role_of_word(word: str) -> Role | None:
    stem = re.sub(r"(set|data|images|split)$", "", word)
    for role, names in _ROLES.items():
        if word in names or stem in names:
            return role
    return None
