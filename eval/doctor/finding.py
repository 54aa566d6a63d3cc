"""One answer of the doctor."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """What was looked at, and what was found.

    Attributes:
        name: What was looked at.
        status: ``ok``; ``note`` for what may explain a result but is no fault; ``wrong`` for what
            has to be mended.
        found: What was found, in words.
        remedy: What to do; empty where nothing is to be done.
    """

    name: str
    status: Status
    found: str
    remedy: str = ""
