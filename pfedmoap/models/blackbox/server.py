"""Serve a black-box model over HTTP; loopback and without a token by default.

``POST /v1/logits`` takes a question and gives logits, both as safetensors; see `wire`. Errors come
as JSON ``{"error": ...}``. The server itself is `pfedmoap.serving`'s.
"""

import threading
from dataclasses import dataclass
from types import TracebackType

import torch

from pfedmoap.errors import BlackBoxError
from pfedmoap.models.blackbox import wire
from pfedmoap.models.blackbox.interface import (
    Answer,
    BlackBoxModel,
    Question,
    SlicedModel,
    Usage,
)
from pfedmoap.serving.limits import ServingLimits
from pfedmoap.serving.listener import Listener
from pfedmoap.serving.place import Place
from pfedmoap.serving.service import Operation, Proceed, Reply, Service

IMAGES_AT_ONCE = 32  # in a slice of work


@dataclass(frozen=True)
class Limits:
    """Limits of one question; a larger one is refused before it is processed.

    Attributes:
        images: Images in it.
        classes: Class names in it.
        templates: Templates in it.
        characters: Length of one text.
        sentence_characters: Length of a template with the longest name in it, as often as it has
            ``{}``. The time to split a text into tokens grows with its square.
    """

    images: int = 256
    classes: int = 1024
    templates: int = 128
    characters: int = 300
    sentence_characters: int = 600

    def check(self, question: Question) -> None:
        """Refuse a question that is too large.

        Raises:
            BlackBoxError: It is; the message says in what.
        """
        text, name = question.text, max(map(len, question.text.class_names))
        sentences = (len(each) + each.count("{}") * name for each in text.templates)
        sizes = {
            "images": len(question.images),
            "classes": len(text.class_names),
            "templates": len(text.templates),
            "characters": max(map(len, text.class_names + text.templates)),
            "sentence_characters": max(sentences, default=0),
        }
        for what, size in sizes.items():
            if size > getattr(self, what):
                raise BlackBoxError(f"{size} {what} asked for, at most {getattr(self, what)}")


class Endpoint:
    """Serves one model; it works on one question at a time.

    Args:
        model: What answers.
        place: Where to listen, and to whom; any free port of loopback by default.
        limits: What one question may ask for.
        serving: Bounds of the server.

    Raises:
        ConfigError: The extra ``serve`` is not installed, or the place cannot be had.
    """

    def __init__(
        self,
        model: BlackBoxModel,
        place: Place | None = None,
        limits: Limits | None = None,
        serving: ServingLimits | None = None,
    ) -> None:
        self._model, self._limits = model, limits or Limits()
        self._counting, self._served = threading.Lock(), Usage()
        operation = Operation(
            wire.PATH,
            self.answer,
            BlackBoxError,
            "Logits of images for texts.",
            accepts=wire.CONTENT_TYPE,
            gives=wire.CONTENT_TYPE,
        )
        service = Service("pfedmoap black box", __doc__ or "", (operation,))
        self._listener = Listener(
            service, place, serving or ServingLimits(body_bytes=wire.LARGEST_BYTES)
        )

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.__exit__(kind, error, trace)

    @property
    def url(self) -> str:
        """Address for `HTTPModel`."""
        return self._listener.url

    @property
    def port(self) -> int:
        """The port, also where 0 was asked for."""
        return self._listener.port

    @property
    def served(self) -> Usage:
        """The cost of all answers so far."""
        with self._counting:
            return self._served

    def serve_forever(self) -> None:
        """Serve until `shutdown`, or in the main thread until a signal; see `Listener`."""
        self._listener.serve_forever()

    def shutdown(self) -> None:
        """End `serve_forever`, from any thread."""
        self._listener.shutdown()

    def answer(self, content: bytes, proceed: Proceed = lambda: None) -> Reply:
        """Answer one request's body.

        Args:
            content: The body.
            proceed: Called between slices of the work; what it raises ends it.

        Raises:
            BlackBoxError: It is not a question, too large a one, or the model has no answer.
        """
        question = wire.decode_question(content)
        self._limits.check(question)
        logits = self._ask(question, proceed).logits
        if not bool(torch.isfinite(logits).all()):
            raise BlackBoxError("the model's answer is not finite; ask with smaller numbers")
        reply = wire.encode_logits(logits)
        with self._counting:
            self._served += Usage(len(question.images), 1, len(content), len(reply))
        return Reply(reply, wire.CONTENT_TYPE)

    def _ask(self, question: Question, proceed: Proceed) -> Answer:
        if isinstance(self._model, SlicedModel):
            return self._model.ask_in_slices(question, proceed)
        answers = []
        for part in question.images.split(IMAGES_AT_ONCE):
            proceed()
            answers.append(self._model.ask(Question(part, question.text)))
        usage = sum((answer.usage for answer in answers), Usage())
        return Answer(torch.cat([answer.logits for answer in answers]), usage)
