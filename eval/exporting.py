"""From a run to one client's model in a folder of its own, with its page."""

import csv
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eval.escaping import for_markdown
from eval.model_card import Card
from eval.model_privacy import Coverage, coverage
from eval.promise import spent_epsilon
from pfedmoap.contract.capabilities import CanPersonalise
from pfedmoap.errors import RunError
from pfedmoap.exported.folder import CARD, ONNX, PROGRAM, Parts, write_model
from pfedmoap.exported.of_run import PersonalModel, personal_model
from pfedmoap.exported.programs import require_onnx, require_torch, trace, write_onnx, write_program
from pfedmoap.models.licences import licence_of
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.storage.atomic_files import make_folder, read_json, write_bytes
from pfedmoap.storage.own_files import contents_in_words, holds_nothing


@dataclass(frozen=True)
class ExportOptions:
    """What is written beside the model.

    Attributes:
        onnx: Also ``model.onnx``.
        torch_export: Also ``model.pt2``.
        counts: Tell on the page how many images of which class the client has.
        metrics: Tell there how good the model is; ``None`` tells it unless the run is private.
        licence: The licence of the backbone's weights; ``None`` names what is known.
    """

    onnx: bool = False
    torch_export: bool = False
    counts: bool = False
    metrics: bool | None = None
    licence: str | None = None


@dataclass(frozen=True)
class Exported:
    """A model that was written.

    Attributes:
        folder: Where it is.
        notes: What its owner should know before it is given away, one sentence each.
    """

    folder: Path
    notes: tuple[str, ...]


def export_model(
    run: str | Path,
    client: int,
    out: str | Path,
    options: ExportOptions | None = None,
    device: str = "auto",
) -> Exported:
    """Write one client's model.

    Args:
        run: The run directory.
        client: Which client.
        out: The folder: absent or empty. That of a private run is its owner's alone.
        options: What to write beside the model.
        device: Where to fold and compare; what is written does not depend on it.

    Returns:
        The folder, and what to know of it.

    Raises:
        RunError: The run is damaged or has no such client, or the folder holds something.
        MethodError: The method's models cannot be folded.
        ConfigError: ONNX is asked for and its packages are missing, or torch is too old for it.
    """
    chosen = options or ExportOptions()
    folder, directory = Path(out).absolute(), RunDirectory(run)
    if chosen.onnx or chosen.torch_export:
        require_torch()
    if chosen.onnx:
        require_onnx()
    if not holds_nothing(folder):
        raise RunError(f"{out} holds {contents_in_words(folder)}; choose another folder with --out")
    model = personal_model(run, client, device)
    parts = model.parts(version("pfedmoap"))
    told = directory.whole("privacy.json")
    statement = read_json(told) if told.exists() else {}
    spent = max(spent_epsilon(directory).values(), default=0.0)
    covers = coverage(model, statement, spent)
    with _staged(folder, private=directory.divided) as made:
        write_model(made, parts, private=directory.divided)
        programs = _write_programs(made, parts, chosen)
        card = _card(directory, model, parts, covers, chosen, programs)
        write_bytes(made / CARD, card.text().encode())
    return Exported(Path(out), _notes(model, covers))


def _notes(model: PersonalModel, covers: Coverage) -> tuple[str, ...]:
    found = [] if covers.caution is None else [f"{covers.caution}: see its README.md"]
    if isinstance(model.method, CanPersonalise):
        found.append(
            f"a run keeps no copy that {model.method_name} fits to a client for inference: this is "
            "the model without it"
        )
    return tuple(found)


def _write_programs(folder: Path, parts: Parts, options: ExportOptions) -> tuple[str, ...]:
    if not (options.onnx or options.torch_export):
        return ()
    import torch

    model = parts.model(torch.device("cpu"))
    program = trace(model)
    if options.onnx:
        write_onnx(program, model, folder)
    if options.torch_export:
        write_program(program, model, folder)
    return tuple(name for name in (ONNX, PROGRAM) if (folder / name).exists())


def _card(
    run: RunDirectory,
    model: PersonalModel,
    parts: Parts,
    covers: Coverage,
    options: ExportOptions,
    programs: tuple[str, ...],
) -> Card:
    tells = not run.divided if options.metrics is None else options.metrics
    return Card(
        parts.record,
        str(run.task.get("data", "unnamed data")),
        licence_of(model.options, options.licence),
        _figures(run, model.download.client) if tells else {},
        _counts(run, model, options),
        covers.paragraphs,
        covers.caution,
        programs,
    )


def _figures(run: RunDirectory, client: int) -> dict[str, Any]:
    """The client's row in the run's table; empty where the run is not finished."""
    table = run.whole("per_client.csv")
    if not table.exists():
        return {}
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["client"] == str(client):
                names = ("accuracy", "macro_f1", "ece", "global_accuracy")
                return {name: float(row[name]) for name in names if row.get(name)}
    return {}


def _counts(run: RunDirectory, model: PersonalModel, options: ExportOptions) -> list[str]:
    """Lines about the client's images, as far as they are asked for or declared public."""
    entry = next(e for e in run.task["clients"] if e["client"] == model.download.client)
    if options.counts:
        return [
            "| class | training images | test images |",
            "|---|---:|---:|",
            *(
                f"| {for_markdown(name)} | {train} | {test} |"
                for name, train, test in zip(
                    model.class_names, entry["train"], entry["test"], strict=True
                )
            ),
        ]
    declared = run.config.get("privacy", {}).get("counts") == "public"
    return [f"The client has {sum(entry['train'])} training images."] if declared else []


@contextmanager
def _staged(folder: Path, *, private: bool) -> Iterator[Path]:
    """Make a folder whole or not at all; it takes its name when it is finished."""
    make_folder(folder.parent)
    made = folder.parent / f".{folder.name}.unfinished-{os.getpid()}"
    made.mkdir(mode=0o700 if private else 0o777)
    try:
        yield made
        if private:
            for file in made.iterdir():
                file.chmod(0o600)
        if folder.is_dir():
            folder.rmdir()
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
