"""Report known errors as one message and an exit code, without a traceback."""

import errno
import functools
import os
import signal
import sys
import warnings
from collections.abc import Callable
from io import TextIOWrapper
from typing import ParamSpec

from PIL import Image

from eval.commands.interruption import Interrupted, farewell, interruptible, options_of
from eval.escaping import for_terminal
from eval.logs import messages_shown
from eval.output import has_left, read_or_not
from pfedmoap.errors import PFedMoAPError

P = ParamSpec("P")

_ALLOWED = "have its permissions changed, or name another place"
_ROOM = "delete what you no longer need, or name a place with more room"
_REMEDIES = {
    "EACCES": _ALLOWED,
    "EPERM": _ALLOWED,
    "EROFS": "nothing can be written there: name another place",
    "ENOENT": "is its name right, and is the folder that it is in there?",
    "ENOTDIR": "a part of this path is a file where a folder has to be: name another place",
    "EISDIR": "it is a folder, and a file has to be named",
    "ENAMETOOLONG": "choose a shorter name",
    "ELOOP": "its symbolic links lead in a circle: name the place itself",
    "ENOSPC": _ROOM,
    "EDQUOT": _ROOM,
    "EMFILE": "raise the limit of open files with `ulimit -n`",
}
"""What to do about the system's errors, by their names."""


def readable_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Let a command log warnings, and end with exit code 1 and a message on a known error."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # we refuse it in a line
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
        with read_or_not():
            _run(command, *args, **kwargs)

    return wrapped


def _run(command: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    try:
        with messages_shown(), interruptible():
            command(*args, **kwargs)
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Interrupted) else signal.SIGINT
        name = command.__module__.rsplit(".", 1)[-1]
        options = options_of(args[0] if args else kwargs.get("arguments"))
        print(farewell(number, name, options), file=sys.stderr)
        sys.exit(128 + number)
    except (PFedMoAPError, OSError) as error:
        if isinstance(error, BrokenPipeError) and has_left(sys.stdout):
            raise  # who read our output does not any more
        print(f"error: {for_terminal(in_words(error))}", file=sys.stderr)
        sys.exit(1)


def in_words(error: Exception) -> str:
    """What a known error says; the system's own errors with what to do about them.

    Example:
        >>> in_words(PermissionError(13, "Permission denied", "/srv/runs"))
        '/srv/runs: permission denied; have its permissions changed, or name another place'
    """
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    what = (error.strerror or type(error).__name__).lower()
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    remedy = _REMEDIES.get(errno.errorcode.get(error.errno, ""))
    return f"{where}{what}" + (f"; {remedy}" if remedy else "")
