"""Answers about image files: what is asked for on a command line, and what each file gets."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.escaping import for_csv
from pfedmoap.data.images import decode, printable
from pfedmoap.data.walk import walk
from pfedmoap.errors import DataError
from pfedmoap.inference import Answer, PersonalizedClassifier

STDIN = "-"


@dataclass(frozen=True)
class FileAnswer:
    """What one file gets.

    Attributes:
        file: Its name, as it was given or found.
        answer: The model's answer; ``None`` where the file cannot be read.
        problem: Why it cannot; ``None`` where it can.
    """

    file: str
    answer: Answer | None
    problem: str | None = None

    def record(self) -> dict[str, Any]:
        """As JSON."""
        if self.answer is None:
            return {"image": printable(self.file), "error": self.problem}
        attention = None if self.answer.attention is None else dict(self.answer.attention)
        name, probability = self.answer.ranking[0]
        return {
            "image": printable(self.file),
            "class": name,
            "probability": probability,
            "probabilities": dict(self.answer.ranking),
            "attention": attention,
        }


def named_files(given: Sequence[str], stdin: Iterable[str]) -> list[str]:
    """List the files that are asked about.

    Args:
        given: Files, folders whose images count at any depth that `walk` goes to, and ``-``.
        stdin: Lines with names of files, for ``-``.

    Returns:
        Files, in the order in which they were given; those of a folder sorted.

    Raises:
        DataError: There is none.
    """
    found: list[str] = []
    for name in given:
        if name == STDIN:
            found += [line.rstrip("\r\n") for line in stdin if line.strip()]
        elif Path(name).is_dir():
            found += sorted(str(Path(name) / image) for image in walk(Path(name)))
        else:
            found.append(name)
    if not found:
        where = ", ".join(printable(name) for name in given)
        raise DataError(f"there is no image in {where}")
    return found


def answers(
    classifier: PersonalizedClassifier,
    files: Sequence[str],
    batch_size: int,
    progress: Callable[[int, int], object] | None = None,
) -> Iterator[FileAnswer]:
    """Answer about files, some at a time; files that cannot be read are told of in their place.

    Args:
        classifier: The model.
        files: Names of files.
        batch_size: How many at a time.
        progress: Called with how many are done, and how many there are.

    Yields:
        One answer a file, in their order.
    """
    for start in range(0, len(files), batch_size):
        batch = files[start : start + batch_size]
        images, problems = [], {}
        for file in batch:
            try:
                images.append(decode(file))
            except DataError as error:
                problems[file] = str(error)
        found = iter(classifier.classify(images, batch_size) if images else ())
        for file in batch:
            if file in problems:
                yield FileAnswer(file, None, problems[file])
            else:
                yield FileAnswer(file, next(found))
        if progress is not None:
            progress(min(start + batch_size, len(files)), len(files))


def as_json(found: Iterable[FileAnswer]) -> Iterator[str]:
    """Write answers as one JSON array, an element a line."""
    before = "["
    for one in found:
        yield f"{before}\n  {json.dumps(one.record(), allow_nan=False)}"
        before = ","
    yield "\n]\n"


def as_csv(found: Iterable[FileAnswer], class_names: Sequence[str]) -> Iterator[str]:
    """Write answers as CSV: image, class, probability, error, and each class's probability."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["image", "class", "probability", "error", *(f"p({name})" for name in class_names)]
    writer.writerow([for_csv(cell) for cell in head])
    for one in found:
        row: list[Any] = [
            printable(one.file),
            "",
            "",
            one.problem or "",
            *([""] * len(class_names)),
        ]
        if one.answer is not None:
            chances = dict(one.answer.ranking)
            each = [chances[name] for name in class_names]
            row = [row[0], *one.answer.ranking[0], "", *each]
        writer.writerow([for_csv(cell) for cell in row])
        yield text.getvalue()
        text.seek(0)
        text.truncate()
