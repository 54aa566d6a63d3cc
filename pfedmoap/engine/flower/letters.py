"""What server and sites write to each other beside arrays: strict JSON, one form a kind."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from pfedmoap.engine.flower.signing import Signer, digest, verify
from pfedmoap.errors import UpdateRejectedError
from pfedmoap.storage.strict_json import fields, integer, number, parse_strict, text
from pfedmoap.wire.messages import ClientId
from pfedmoap.wire.said import one_line

Wire = Literal["float32", "float16"]
MOST_CHARACTERS = 2**20
_ABOUT, _ARRAYS = "pfedmoap.about", "pfedmoap.arrays"
_TEXT, _SIGNATURE = "json", "signature"


@dataclass(frozen=True)
class Order:
    """What the server asks one site to do, beside the arrays of its download.

    Attributes:
        federation: Id of the federation, so that no other one's messages are taken for it.
        client: The site's number in it.
        round: The round.
        committed: The last round in which the server admitted an update of this site; 0 before.
            It decides which of its states the site continues from.
        nonce: Random characters that the answer has to repeat.
        wire: Number format of float32 arrays on the wire.
    """

    federation: str
    client: ClientId
    round: int
    committed: int
    nonce: str
    wire: Wire = "float32"


@dataclass(frozen=True)
class Answer:
    """What a site answers to an `Order`, beside the arrays of its update.

    Attributes:
        federation: As in the order.
        client: As in the order.
        round: As in the order.
        nonce: As in the order.
        num_examples: See `Update`.
        metrics: See `Update`.
        epsilon: What the site has spent; ``None`` without a budget.
        sat_out: Why it did not train; ``None`` if it did.
        scores: Figures of evaluation, by name; empty where they are private, or were not asked for.
    """

    federation: str
    client: ClientId
    round: int
    nonce: str
    num_examples: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    epsilon: float | None = None
    sat_out: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)


def seal(
    about: Mapping[str, Any],
    arrays: ArrayRecord | None = None,
    signer: Signer | None = None,
    kind: str = "",
) -> RecordDict:
    """Put JSON and arrays into the content of a message, and sign both.

    Args:
        about: What is said.
        arrays: What is sent along.
        signer: The server's key; sites do not sign.
        kind: The action that is asked for, which is signed with the rest.
    """
    said = json.dumps(about, allow_nan=False)
    sealed = {_TEXT: said}
    if signer is not None:
        sealed[_SIGNATURE] = signer.sign(digest(kind, said, arrays or ArrayRecord()))
    content = RecordDict({_ABOUT: ConfigRecord({**sealed})})
    if arrays is not None:
        content[_ARRAYS] = arrays
    return content


def unseal(
    content: RecordDict, key: Callable[[Any], str] | None = None, kind: str = ""
) -> tuple[Any, ArrayRecord]:  # JSON of any shape
    """Take JSON and arrays out of the content of a message.

    Args:
        content: The content.
        key: Finds the key that has to have signed it, given its JSON; ``None`` where nobody has.
        kind: The action as which it arrived.

    Raises:
        UpdateRejectedError: It is none of ours, or is not signed as it must be.
    """
    about, arrays = content.get(_ABOUT), content.get(_ARRAYS, ArrayRecord())
    said = about.get(_TEXT) if isinstance(about, ConfigRecord) else None
    known = set(content) <= {_ABOUT, _ARRAYS}
    if not known or not isinstance(said, str) or not isinstance(arrays, ArrayRecord):
        raise UpdateRejectedError(
            f"a message holds {sorted(content)!s:.200}, expected {_ABOUT} and perhaps {_ARRAYS}"
        )
    if len(said) > MOST_CHARACTERS:
        raise UpdateRejectedError(f"a message has {len(said)} characters of JSON")
    try:
        record = parse_strict(said)
    except ValueError as error:
        raise UpdateRejectedError(one_line(f"a message is damaged: {error}")) from error
    if key is not None:
        signature = about.get(_SIGNATURE) if isinstance(about, ConfigRecord) else None
        verify(digest(kind, said, arrays), str(signature), key(record))
    return record, arrays


def order_json(order: Order) -> dict[str, Any]:
    """Write an order as JSON."""
    return asdict(order)


def answer_json(answer: Answer) -> dict[str, Any]:
    """Write an answer as JSON."""
    return asdict(answer) | {"metrics": dict(answer.metrics), "scores": dict(answer.scores)}


def read_order(record: object) -> Order:
    """Read an order.

    Raises:
        UpdateRejectedError: It is none.
    """
    try:
        found = fields(record, ("federation", "client", "round", "committed", "nonce", "wire"))
        if found["wire"] not in ("float32", "float16"):
            raise ValueError(f"the wire's format is {found['wire']!r:.40}")
        return Order(
            text(found["federation"], "the federation"),
            ClientId(integer(found["client"], "the client")),
            integer(found["round"], "the round", 1),
            integer(found["committed"], "the committed round"),
            text(found["nonce"], "the nonce"),
            found["wire"],
        )
    except ValueError as error:
        raise UpdateRejectedError(f"this is no order of a server: {error}") from error


def read_answer(record: object) -> Answer:
    """Read an answer.

    Raises:
        UpdateRejectedError: It is none.
    """
    names = ("federation", "client", "round", "nonce", "num_examples", "metrics", "epsilon")
    try:
        found = fields(record, (*names, "sat_out", "scores"))
        count, epsilon, why = found["num_examples"], found["epsilon"], found["sat_out"]
        return Answer(
            text(found["federation"], "the federation"),
            ClientId(integer(found["client"], "the client")),
            integer(found["round"], "the round", 1),
            text(found["nonce"], "the nonce"),
            None if count is None else integer(count, "the number of examples"),
            _numbers(found["metrics"], "the metrics"),
            None if epsilon is None else number(epsilon, "epsilon"),
            None if why is None else one_line(text(why, "the reason")),
            _numbers(found["scores"], "the scores"),
        )
    except ValueError as error:
        raise UpdateRejectedError(one_line(f"this is no answer of a site: {error}")) from error


def check_answer(answer: Answer, order: Order) -> Answer:
    """Refuse an answer to anything but one order: another site's, another round's, or a replay.

    Raises:
        UpdateRejectedError: It is one.
    """
    for name in ("federation", "client", "round", "nonce"):
        found, expected = getattr(answer, name), getattr(order, name)
        if found != expected:
            raise UpdateRejectedError(
                f"an answer to client {order.client}'s order of round {order.round} has the {name} "
                f"{found!r:.80}, expected {expected!r}: it is another one's, or was sent before"
            )
    return answer


def _numbers(record: object, what: str) -> dict[str, float]:
    if not isinstance(record, dict) or len(record) > 100:
        raise ValueError(f"{what} must be a small object")
    return {text(name, what): float(number(value, name, -1e300)) for name, value in record.items()}
