"""The open connections, of which a slow one makes room for a new one."""

from typing import Protocol

from pfedmoap.serving.limits import ServingLimits

try:
    import resource
except ImportError:  # Windows, which has no such bound
    resource = None  # type: ignore[assignment]

FILES_KEPT = 64  # open files of the process that are no connections


class Connection(Protocol):
    """One connection, whatever it is at.

    Attributes:
        since: When it began to send what it is sending now, by the loop's clock.
    """

    since: float

    def may_go(self, now: float) -> bool:
        """Whether it may be dropped for another one."""
        ...

    def drop(self) -> None:
        """End it at once, and leave the gate."""
        ...


class Gate:
    """The open connections; a new one takes the place of the one that has sent for longest.

    Args:
        limits: Bounds. There are fewer connections where the system allows fewer open files.
    """

    def __init__(self, limits: ServingLimits) -> None:
        self.limits = limits
        self._places = min(limits.connections, most_connections())
        self._inside: set[Connection] = set()

    def enter(self, new: Connection, now: float) -> bool:
        """Take in a connection, or say that there is no place for it.

        Args:
            new: The connection.
            now: By the loop's clock.
        """
        if len(self._inside) >= self._places:
            slow = [old for old in self._inside if old.may_go(now)]
            if not slow:
                return False
            min(slow, key=lambda old: old.since).drop()
        self._inside.add(new)
        return True

    def leave(self, old: Connection) -> None:
        """Forget a connection that has ended."""
        self._inside.discard(old)


def most_connections() -> int:
    """The number of connections that the bound on open files leaves room for."""
    if resource is None:
        return 2**16
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 2**16 if files == resource.RLIM_INFINITY else max(1, files - FILES_KEPT)
