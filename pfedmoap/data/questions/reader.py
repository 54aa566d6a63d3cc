"""Multiple-choice questions in JSON lines, as a data set."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pfedmoap.config.bounds import Fraction
from pfedmoap.data.dataset import BoolArray, Grouping, ImageDataset, IntArray
from pfedmoap.data.division import strata_of, stratified_test_mask
from pfedmoap.errors import ConfigError, DataError
from pfedmoap.models.language.question import Question

Split = Literal["train", "test"]
OPTIONAL = ("split", "domain", "class")


@dataclass(frozen=True)
class Questions:
    """Multiple-choice questions, one JSON object a line.

    Each has ``question``, ``choices`` (two at least, not the same number everywhere) and ``answer``
    (the right choice, counted from 0). It may have ``split`` (``train`` or ``test``), ``domain``
    and ``class``, each on all lines or on none; other fields are not read. Partitions and few shots
    go by ``class``, or by the right choice where there is none. Without given splits the test
    questions are drawn from every class, and domain, alike.

    Attributes:
        path: A ``.jsonl`` file, or a folder with ``train.jsonl`` and ``test.jsonl``.
        template: What a question becomes before the answer, which follows behind a space; with
            one ``{}``.
        test_fraction: Part held out, where the lines have no ``split``.
        seed: Seed of that division.
    """

    path: str
    template: str = "Question: {}\nAnswer:"
    test_fraction: Fraction = 0.3
    seed: int = 0

    def read(self) -> ImageDataset:
        """Read the questions.

        Returns:
            The data set; ``load`` gives a `Question`, labels are the right choices, and classes
            are the choices where all questions share them, else ``choice 1`` and so on.

        Raises:
            ConfigError: The template is not one.
            DataError: A file is missing, or a line is wrong; names it.
        """
        if self.template.count("{}") != 1 or self.template.endswith((" ", "{")):
            raise ConfigError(
                f"data.template is {self.template!r}, expected one {{}} for the question, and no "
                "space at the end: one is put before each answer"
            )
        path = Path(self.path).expanduser()
        lines = [line for file, split in _files(path) for line in _lines(file, split)]
        if not lines:
            raise DataError(f"{path} has no questions")
        _check_uniform(lines)
        labels = np.array([line.answer for line in lines], dtype=np.int64)
        domain_names, domains = _numbered([line.domain for line in lines])
        classes, numbers = _numbered([line.group for line in lines])
        grouping = None if numbers is None else Grouping(classes, numbers)
        strata = strata_of(labels if numbers is None else numbers, domains)
        return ImageDataset(
            name=path.resolve().stem,
            class_names=_class_names(lines),
            labels=labels,
            is_test=self._divided(lines, strata),
            load=_Loader(self.template, tuple(lines)),
            fingerprint=self._fingerprint(path),
            domains=domains,
            domain_names=domain_names,
            templates=(self.template,),
            grouping=grouping,
        )

    def _divided(self, lines: Sequence["_Line"], strata: IntArray) -> BoolArray:
        if lines[0].split is None:
            return stratified_test_mask(strata, self.test_fraction, self.seed)
        return np.array([line.split == "test" for line in lines])

    def _fingerprint(self, path: Path) -> str:
        digest = hashlib.sha256(f"questions 1 {self.template!r}".encode())
        for file, split in _files(path):
            digest.update(f"\0{split}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()


@dataclass(frozen=True)
class _Line:
    """One line of a file, checked."""

    where: str
    question: str
    choices: tuple[str, ...]
    answer: int
    split: Split | None
    domain: str | None
    group: str | None


@dataclass(frozen=True)
class _Loader:
    """Formats question ``i`` with the template."""

    template: str
    lines: tuple[_Line, ...]

    def __call__(self, index: int) -> Question:
        line = self.lines[index]
        return Question(self.template.replace("{}", line.question), line.choices)


def _files(path: Path) -> list[tuple[Path, Split | None]]:
    """The files to read, with the division that each is, if it is one."""
    if path.is_dir():
        found: list[tuple[Path, Split | None]] = [
            (path / "train.jsonl", "train"),
            (path / "test.jsonl", "test"),
        ]
        if missing := [file.name for file, _ in found if not file.is_file()]:
            raise DataError(f"folder {path} has no {' and no '.join(missing)}; or name one file")
        return found
    if not path.is_file():
        raise DataError(
            f"there is no file or folder {path}: data.path names a .jsonl file with one question "
            "a line, or a folder with train.jsonl and test.jsonl"
        )
    return [(path, None)]


def _lines(file: Path, split: Split | None) -> list[_Line]:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text: {error}") from error
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            json.dumps(entry, ensure_ascii=False).encode()  # half a surrogate pair is no text
        except (ValueError, RecursionError) as error:  # also numbers and nestings without end
            raise DataError(f"{file}, line {number} is not JSON: {error}") from error
        found.append(_checked(entry, f"{file}, line {number}", split))
    return found


def _checked(entry: Any, where: str, split: Split | None) -> _Line:  # Any: what JSON may hold
    if not isinstance(entry, dict):
        raise DataError(f"{where}: expected an object with question, choices and answer")
    if missing := [name for name in ("question", "choices", "answer") if name not in entry]:
        raise DataError(f"{where} has no {', '.join(missing)}")
    question, choices, answer = (entry[name] for name in ("question", "choices", "answer"))
    if not isinstance(question, str) or not question.strip():
        raise DataError(f"{where}: question is {question!r}, expected a text")
    if not isinstance(choices, list) or len(choices) < 2 or not all(map(_is_text, choices)):
        raise DataError(f"{where}: choices are {choices!r}, expected two texts at least")
    if repeated := [choice for choice, count in Counter(choices).items() if count > 1]:
        raise DataError(f"{where}: choices {repeated} occur twice")
    if type(answer) is not int or not 0 <= answer < len(choices):
        raise DataError(f"{where}: answer is {answer!r}, expected 0 to {len(choices) - 1}")
    for name in OPTIONAL:
        if entry.get(name) is not None and not _is_text(entry[name]):
            raise DataError(f"{where}: {name} is {entry[name]!r}, expected a text")
    named = entry.get("split")
    if named not in ("train", "test", None) or (split and named not in (split, None)):
        raise DataError(f"{where}: split is {named!r}, expected {split or 'train or test'}")
    return _Line(
        where=where,
        question=question,
        choices=tuple(choices),
        answer=answer,
        split=split or named,
        domain=entry.get("domain"),
        group=entry.get("class"),
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _check_uniform(lines: Sequence[_Line]) -> None:
    """Refuse optional fields that only some of the lines have."""
    for name, field in zip(OPTIONAL, ("split", "domain", "group"), strict=True):
        lacking = [line for line in lines if getattr(line, field) is None]
        if 0 < len(lacking) < len(lines):
            raise DataError(
                f"{lacking[0].where} has no {name}, and {len(lines) - len(lacking)} other "
                f"questions have one: give it on all lines or on none"
            )


def _numbered(names: Sequence[str | None]) -> tuple[tuple[str, ...], IntArray | None]:
    """Number names by their sorted order; no numbers where there are no names."""
    order = tuple(sorted({name for name in names if name is not None}))
    if not order:
        return (), None
    numbers = {name: number for number, name in enumerate(order)}
    return order, np.array([numbers[name] for name in names if name is not None], dtype=np.int64)


def _class_names(lines: Sequence[_Line]) -> tuple[str, ...]:
    if len({line.choices for line in lines}) == 1:
        return lines[0].choices
    return tuple(f"choice {i + 1}" for i in range(max(len(line.choices) for line in lines)))
