"""Why a request gets no answer: a status and one line."""

RETRY_SECONDS = 1


class Refusal(Exception):  # noqa: N818 - no failure of ours: it is what the asker is told
    """A request is not answered.

    Args:
        status: HTTP status.
        message: One line for the asker.

    Attributes:
        status: As given.
        message: As given.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message

    @property
    def headers(self) -> dict[str, str]:
        """What the status asks for beside it."""
        if self.status == 503:
            return {"Retry-After": str(RETRY_SECONDS)}
        return {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}


class Departed(Exception):  # noqa: N818 - no failure: nobody is there to be told
    """The asker closed the connection."""
