"""Text that another machine wrote: it may fill no screen, move no cursor and begin no line."""

MOST_CHARACTERS = 900


def one_line(said: str, most: int = MOST_CHARACTERS) -> str:
    r"""Write what is not printable as escapes, and cut what is long.

    Example:
        >>> print(one_line("well" + chr(10) + chr(27) + "[2J"))
        well\x0a\x1b[2J

    Args:
        said: Any text.
        most: Most characters that are left of it.
    """
    cut = said if len(said) <= most else said[: most - 3] + "..."
    return "".join(each if each.isprintable() else _escape(ord(each)) for each in cut)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 256 else f"\\u{{{code:x}}}"
