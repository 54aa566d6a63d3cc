"""A client's model with all of its prompts encoded: what is left of it behind the image tower."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn, Protocol, runtime_checkable

from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.predicting import written_for
from pfedmoap.errors import MethodError
from pfedmoap.wire.messages import Arrays, ClientId, Download

Scalar = bool | int | float | str


@dataclass(frozen=True)
class Folded:
    """From image features to logits, without a text tower.

    Attributes:
        kind: How logits are made: a name in `pfedmoap.exported.heads`, which says what arrays and
            options each has.
        options: Its numbers and words.
        arrays: Its tensors: class features, gates, and so on.
        experts: Whose prompts experts 1 .. E-1 are, where the kind has experts.
    """

    kind: str
    options: Mapping[str, Scalar]
    arrays: Arrays
    experts: tuple[ClientId, ...] = field(default=())


@runtime_checkable
class CanFold(Protocol):
    """A method whose clients' models are a head on an image tower.

    It counts only where nothing below the class that defines it replaces ``predict``.
    """

    def fold(self, download: Download, local: Arrays | None) -> Folded:
        """Encode all that needs the text tower; answers are those of `Method.predict`.

        Args:
            download: What the server would send this client now.
            local: What the client kept; ``None`` for a client that never took part.

        Raises:
            MethodError: This model cannot be folded; the message says why.
        """
        ...


def fold(method: AnyMethod, download: Download, local: Arrays | None) -> Folded:
    """Fold one client's model.

    Args:
        method: The method.
        download: See `CanFold.fold`.
        local: The same.

    Raises:
        MethodError: The method says that it cannot, or does not say that it can.
    """
    if not isinstance(method, CanFold) or not written_for(method, "fold", "predict", "classify"):
        raise MethodError(
            f"{type(method).__name__} does not say what is left of its clients' models once their "
            "prompts are encoded: give it a function `fold` beside its own `predict` (see "
            "pfedmoap.contract.folding), or use the run itself"
        )
    return method.fold(download, local)


def refuse_to_fold(why: str) -> NoReturn:
    """End `CanFold.fold` of a method whose models cannot be folded.

    Args:
        why: The reason, which ends with what can be done.

    Raises:
        MethodError: Always.
    """
    raise MethodError(f"a client's model of this run cannot be exported: {why}")
