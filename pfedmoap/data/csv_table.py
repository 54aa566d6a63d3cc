"""Images listed in a CSV file, with their labels and perhaps their division, domain and person."""

import csv
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pfedmoap.config.bounds import Fraction
from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.image_files import ImageFile, read_files
from pfedmoap.data.split_names import report_uses, roles_of, uses_of
from pfedmoap.errors import DataError

logger = logging.getLogger(__name__)

REQUIRED = ("image", "label")
DOMAIN = ("domain", "site")  # two names for the same thing
DELIMITERS = (",", ";", "\t")
MOST_SHOWN = 300  # characters of a first row, in messages
OPTIONAL = ("split", *DOMAIN, "group")


@dataclass(frozen=True)
class CSVTable:
    """Images listed in a CSV file, one a row, under a first row of column names.

    The columns ``image`` (a path, relative to the CSV's folder) and ``label`` (the name of the
    class) must be there. ``split`` (``train`` and ``test``, or other usual names of them; rows of
    a ``val`` are tested on where there is no ``test``, and else not used), ``domain`` or ``site``,
    and ``group`` (whose image it is, for ``--privacy.unit group``) may be; such a column is filled
    in every row. Other columns are left alone. Without a ``split`` the test images are drawn from
    every class, and domain, alike; with groups, whole groups are drawn.

    Cells are separated by commas, or, where the first row shows it, by semicolons or tabs.

    Attributes:
        file: The CSV file, in UTF-8.
        test_fraction: Part of each class (and domain) held out, where no column says.
        seed: Seed of that division.
    """

    file: str
    test_fraction: Fraction = 0.3
    seed: int = 0

    def read(self) -> ImageDataset:
        """Read the table and check every image.

        Returns:
            The data set; classes and domains are in sorted order.

        Raises:
            DataError: If the file is missing or no such table, a row lacks something or repeats an
                image, or no image is usable.
        """
        file = Path(self.file).expanduser()
        return read_files(
            file.parent,
            file.stem,
            _rows(file),
            tuple,
            table=file,
            test_fraction=self.test_fraction,
            seed=self.seed,
        )


def _rows(file: Path) -> list[ImageFile]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            delimiter = _delimiter(text.readline())
            text.seek(0)
            reader = csv.DictReader(text, strict=True, delimiter=delimiter)
            columns = _columns(file, reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise DataError(f"{file} cannot be read as a CSV file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} cannot be read as a CSV file: it is not UTF-8 (byte {error.start}); save it "
            "anew as text in UTF-8, which spreadsheets call CSV UTF-8"
        ) from error
    except csv.Error as error:
        raise DataError(f"{file} cannot be read as a CSV file: {error}") from error
    if not rows:
        raise DataError(f"{file} lists no image: expected a row for each below the column names")
    first: dict[str, int] = {}
    found: list[ImageFile] = []
    for line, row in rows:
        cells = _cells(file, line, row, columns)
        image = cells["image"]
        if image in first:
            raise DataError(f"{file}, line {line}: {image} is in line {first[image]} already")
        first[image] = line
        domain = cells.get("domain", cells.get("site"))
        found.append(
            ImageFile(image, cells["label"], domain, cells.get("split"), cells.get("group"))
        )
    return _with_divisions(file, found, list(first.values())) if "split" in columns else found


def _with_divisions(
    file: Path, found: Sequence[ImageFile], lines: Sequence[int]
) -> list[ImageFile]:
    """Read the cells of ``split`` as divisions, and leave out rows that are of neither."""
    counts = Counter(str(one.division) for one in found)
    roles = roles_of(counts)
    for one, line in zip(found, lines, strict=True):
        if one.division not in roles:
            raise DataError(
                f"{file}, line {line}: split is {one.division!r}, expected train or test"
            )
    uses = uses_of(roles)
    if not {"train", "test"} <= set(uses.values()):
        raise DataError(
            f"{file}: split names {', '.join(uses)} alone, expected train and test; drop the "
            "column, and test images will be drawn"
        )
    report_uses(file, uses, counts)
    return [
        replace(one, division=uses[str(one.division)])
        for one in found
        if uses[str(one.division)] != "unused"
    ]


def _delimiter(first: str) -> str:
    """What separates the names of columns: a comma, unless only another one gives those needed."""
    for delimiter in DELIMITERS:
        names = next(csv.reader([first], delimiter=delimiter), [])
        if set(REQUIRED) <= {name.strip() for name in names}:
            return delimiter
    return DELIMITERS[0]


def _columns(file: Path, found: Sequence[str]) -> list[str]:
    """Which of our columns the table has."""
    names = [name.strip() for name in found]
    if missing := [name for name in REQUIRED if name not in names]:
        shown = ", ".join(names) or "empty"
        shown = shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]} ..."
        raise DataError(
            f"{file} has no column {' and no column '.join(missing)}: its first row is "
            f"{shown}; expected image, label and perhaps {', '.join(OPTIONAL)}, in lower case, "
            "separated by commas, semicolons or tabs"
        )
    known = [name for name in (*REQUIRED, *OPTIONAL) if name in names]
    if doubles := sorted({name for name in known if names.count(name) > 1}):
        raise DataError(f"{file} has the columns {doubles} twice")
    if set(DOMAIN) <= set(known):
        raise DataError(f"{file} has a column domain and a column site: keep one of them")
    if others := [name for name in names if name not in known]:
        logger.warning("%s: the columns %s are not used", file, ", ".join(others))
    return known


def _cells(
    file: Path, line: int, row: Mapping[str | None, str | list[str] | None], columns: Sequence[str]
) -> dict[str, str]:
    if None in row or None in row.values():
        more = len(row.get(None) or ())
        got = len(row) - (None in row) + more - sum(cell is None for cell in row.values())
        raise DataError(
            f"{file}, line {line} has another number of cells ({got}) than there are columns "
            f"({len(row) - (None in row)}); a cell with a separator in it stands in quotes"
        )
    cells = {str(name).strip(): str(cell).strip() for name, cell in row.items()}
    if empty := [name for name in columns if not cells[name]]:
        raise DataError(f"{file}, line {line}: {' and '.join(empty)} must not be empty")
    return {name: cells[name] for name in columns}
