"""Names as they may be written: to a terminal, into LaTeX, CSV and Markdown.

Names of clients, domains, classes, files and methods come from folders and files that somebody else
may have made. What they contain must not act: neither as a terminal's control sequence, nor as a
formula of a spreadsheet, nor as a table's column. HTML is escaped by its templates.
"""

import unicodedata
from typing import Any

_JOINERS = (
    "\u200c\u200d\u00ad"  # format characters that scripts and emoji need, and that do no harm
)
_LATEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    **{character: "\\" + character for character in "&%$#_{}"},
}
_MARKDOWN = "\\`*<>|"


def for_terminal(text: str, *, lines: bool = True) -> str:
    r"""Write control characters, direction marks and broken characters as escapes.

    Examples:
        >>> print(for_terminal("a" + chr(27) + "b"))
        a\x1bb

    Args:
        text: Any text.
        lines: Leave line feeds as they are, in text of several lines; a name has none.
    """
    return "".join(
        character if (character == "\n" and lines) or not _acts(character) else _escape(character)
        for character in text
    )


def for_latex(text: str) -> str:
    """Write text so that LaTeX prints it as it is, in one line."""
    flat = for_terminal(" ".join(text.split()), lines=False)
    return "".join(_LATEX.get(character, character) for character in flat)


def for_markdown(text: str) -> str:
    """Write text for a cell of a Markdown table, in one line."""
    flat = for_terminal(" ".join(text.split()), lines=False)
    special = _MARKDOWN + "[]" if "](" in flat else _MARKDOWN
    return "".join("\\" + each if each in special else each for each in flat)


def for_csv(value: Any) -> Any:  # a cell of any type
    """Write a cell so that no spreadsheet takes it for a formula; numbers stay as they are."""
    if not isinstance(value, str):
        return value
    if value[:1] in ("=", "+", "-", "@", "\t", "\r") and len(value) > 1 and not _number(value):
        return f"'{value}"
    return value


def _acts(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cs", "Zl", "Zp") or (kind == "Cf" and character not in _JOINERS)


def _escape(character: str) -> str:
    code = ord(character)
    return (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
