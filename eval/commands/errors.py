"""Report known errors as one message and an exit code, without a traceback."""

import functools
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
from pfedmoap.errors import PFedMoAPError

P = ParamSpec("P")


def readable_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Let a command log warnings, and end with exit code 1 and a message on a known error."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # we refuse it in a line
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
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
            print(f"error: {for_terminal(str(error))}", file=sys.stderr)
            sys.exit(1)

    return wrapped
