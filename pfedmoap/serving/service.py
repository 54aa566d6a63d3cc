"""What is served: operations from the bytes of a request to the bytes of an answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pfedmoap.errors import PFedMoAPError

Proceed = Callable[[], None]
"""Called between slices of work; raises `Abandoned` once nobody waits for the answer."""


class Abandoned(Exception):  # noqa: N818 - no error: it ends work, and nobody sees it
    """The asker has left, or time is up: work on the question ends here."""


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes:
        content: Its bytes.
        media_type: Their type.
    """

    content: bytes
    media_type: str


@dataclass(frozen=True)
class Operation:
    """One kind of question.

    Attributes:
        path: Where it is asked, by POST.
        answer: From a request's body to the answer, in the one thread of the model. Calls its
            second argument as often as it can, and lets what that raises pass.
        refuses: The error by which ``answer`` says that the question is wrong. Its message goes
            to the asker, with status 400; any other error stays in the log.
        summary: One line for the OpenAPI document.
        accepts: Media type of the body, for the same.
        gives: Media type of the answer, for the same.
        schema: JSON schema of the answer, for the same.
    """

    path: str
    answer: Callable[[bytes, Proceed], Reply]
    refuses: type[PFedMoAPError]
    summary: str
    accepts: str = "application/octet-stream"
    gives: str = "application/json"
    schema: Mapping[str, Any] = field(default_factory=dict)  # JSON


@dataclass(frozen=True)
class Service:
    """All that one server answers.

    Attributes:
        title: Its name.
        description: What it does.
        operations: Its kinds of questions.
    """

    title: str
    description: str
    operations: tuple[Operation, ...]
