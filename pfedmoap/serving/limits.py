"""What a server grants to one request, and to all of them together."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ServingLimits:
    """Bounds on size, time and number; what exceeds one is refused, with a status that says why.

    Attributes:
        connections: Open at once. A further one takes the place of the one that has been sending
            for the longest; where none is sending, it is refused with status 503.
        header_seconds: For the head of a request, counted from connecting or from the last answer.
        header_bytes: Size of a request's head.
        handshake_seconds: For the TLS handshake.
        body_bytes: Size of a request's body.
        body_seconds: For all of a request's body.
        silence_seconds: Without any byte of a body.
        memory_bytes: Of all bodies held at once. Where it is used up, bodies that have been
            arriving for longer than ``grace_seconds`` are given up.
        grace_seconds: In which a body that is arriving is not given up for another one.
        questions: Waiting for the model or at work; further ones are refused with status 503.
        request_seconds: For a request as a whole, with waiting, work and answer.
        ending_seconds: For the requests that are at work when the server is told to end.
    """

    connections: int = 256
    header_seconds: float = 10.0
    header_bytes: int = 2**14
    handshake_seconds: float = 10.0
    body_bytes: int = 64 * 2**20
    body_seconds: float = 60.0
    silence_seconds: float = 10.0
    memory_bytes: int = 256 * 2**20
    grace_seconds: float = 5.0
    questions: int = 16
    request_seconds: float = 300.0
    ending_seconds: int = 10
