"""Pages of the documentation with a place that a command fills, between two comments."""

from pathlib import Path

from pfedmoap.errors import ConfigError
from pfedmoap.storage.atomic_files import write_bytes


def marks(name: str) -> tuple[str, str]:
    """The comments before and behind a place.

    Examples:
        >>> marks("faults")
        ('<!-- faults -->', '<!-- end of faults -->')
    """
    return f"<!-- {name} -->", f"<!-- end of {name} -->"


def around(page: Path, name: str) -> tuple[str, str]:
    """Read what is before and behind a place, its marks included.

    Raises:
        ConfigError: The page cannot be read, or has no such place.
    """
    begin, end = marks(name)
    try:
        text = page.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the page {page}: {error}") from error
    if begin not in text or end not in text.partition(begin)[2]:
        raise ConfigError(f"{page} has no place for the table ({begin} ... {end})")
    head, _, rest = text.partition(begin)
    return head + begin, end + rest.partition(end)[2]


def fill(page: Path, name: str, text: str) -> None:
    """Write text, which ends with a line break, into a place.

    Raises:
        ConfigError: See `around`.
    """
    head, tail = around(page, name)
    write_bytes(page, f"{head}\n{text}{tail}".encode())
