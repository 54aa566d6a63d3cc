"""Taking a SuperNode's tasks."""

import threading
from typing import Any

from flwr.supercore.inflatable.inflatable_utils import ObjectPushError

from pfedmoap.engine.flower import workers
from pfedmoap.engine.flower.places import Address


class Tasks:
    """What a SuperNode has to do: two messages, and then nothing, which ends the test."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop, self.left = stop, 2
        self.token = "token"

    def from_server_address(self, *_: Any, **__: Any) -> "Tasks":
        return self

    def __enter__(self) -> "Tasks":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def AcquireTask(self, _: Any) -> "Tasks":  # noqa: N802  # Flower's name
        self.left -= 1
        if self.left < 0:
            self.stop.set()
        return self

    def HasField(self, _: str) -> bool:  # noqa: N802  # as above
        return self.left >= 0

    def SendTaskHeartbeat(self, _: Any) -> None:  # noqa: N802  # as above
        pass


def test_an_answer_that_nobody_waits_for_does_not_end_the_site(monkeypatch, caplog):
    stop, answered = threading.Event(), []

    def too_late(*_: Any) -> None:
        raise ObjectPushError("an object", 1, "a session")

    monkeypatch.setattr(workers, "RuntimeHttpClient", Tasks(stop))
    monkeypatch.setattr(workers, "pull_task_input", lambda _: ("asked", None, None, None))
    monkeypatch.setattr(workers, "push_message", too_late)
    app: Any = lambda message, context: answered.append(message)  # noqa: E731
    workers.serve_tasks(Address("127.0.0.1", 1), b"secret", app, stop)
    assert answered == ["asked", "asked"]
    assert caplog.text.count("nobody waits for an answer any more") == 2
