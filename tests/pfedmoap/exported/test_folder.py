"""An exported model's folder: read as it was written, and refused where it is damaged."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pfedmoap.contract.folding import fold
from pfedmoap.errors import BackboneError, RunError
from pfedmoap.exported import folder as folders
from pfedmoap.exported.folder import HEAD, RECORD, TOWER, is_exported, read_model, write_model
from pfedmoap.exported.model import ExportedModel
from pfedmoap.inference import PersonalizedClassifier
from pfedmoap.storage.digests import sha256_of_file
from tests.helpers.exported import exported, parts_of, trained

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("exported") / "model")


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    for file in written.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_what_is_read_answers_as_what_was_written(written):
    world, download, local = trained("attention gate")
    setting = world.method.setting
    folded = fold(world.method, download, local)
    model = ExportedModel(
        setting.backbone.model.visual,
        setting.backbone.preprocessing,
        folded,
        setting.class_names,
        "tiny",
    )
    again = read_model(written).model(CPU)
    pixels = torch.randn(3, 3, 32, 32)
    assert torch.equal(model(pixels), again(pixels))
    assert again.class_names == setting.class_names
    assert again.experts == folded.experts == (1, 0)
    assert is_exported(written)


def test_a_folder_that_holds_something_is_left_alone(written, tmp_path):
    world, download, local = trained("one prompt")
    setting = world.method.setting
    parts = parts_of(setting.backbone, fold(world.method, download, local), setting.class_names)
    with pytest.raises(RunError, match="choose another folder"):
        write_model(written, parts, private=False)
    write_model(tmp_path / "own", parts, private=True)
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "own").iterdir()}
    assert set(modes.values()) == {0o600}
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o700


def changed(copy: Path, *keys: str | int, to: object) -> None:
    """Change one value of the record."""
    record = json.loads((copy / RECORD).read_text())
    place = record
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    (copy / RECORD).write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("keys", "to", "said"),
    [
        (("format",), "other", "is no exported model"),
        (("version",), 2, "reads version 1"),
        (("more",), 1, "unknown keys: more"),
        (("class_names",), ["a", "a"], "different names"),
        (("class_names",), [], "class_names must be"),
        (("preprocessing", "size"), 10**6, "size must be a whole number from 1 to 4096"),
        (("preprocessing", "std"), [0.1, 0.1, 0], "std must be a number"),
        (("preprocessing", "resize"), "other", "resize must be one of"),
        (("head", "options", "scale"), [1], "neither a number nor a word"),
        (("head", "experts"), [-1], "an expert must be a whole number"),
        (("sha256", HEAD), "0", "checksum of head.safetensors is none"),
        (("origin", "client"), 1.0, "client must be a whole number"),
        (("tower", "embed_dim"), 2**40, "embed_dim must be a whole number"),
        (("tower", "vision", "layers"), 10**9, "layers must be a whole number from 1 to 512"),
        (("tower", "vision", "shape"), 1, "open_clip knows no shape"),
        (("tower", "vision", "timm_model_name"), "hf-hub:a/b", "plain name"),
        (("tower", "vision", "pos_embed_type"), {"a": 1}, "pos_embed_type must be"),
    ],
)
def test_a_record_is_checked_field_by_field(keys, to, said, copy):
    changed(copy, *keys, to=to)
    with pytest.raises(RunError, match=said):
        read_model(copy)


@pytest.mark.parametrize("width", [64, 65_536])
def test_an_architecture_has_to_fit_its_weights_before_memory_is_taken(width, copy):
    changed(copy, "tower", "vision", "width", to=width)
    with pytest.raises(BackboneError, match="size mismatch"):
        read_model(copy).model(CPU)


def test_damaged_files_are_refused_by_name(copy, monkeypatch):
    (copy / TOWER).write_bytes((copy / TOWER).read_bytes()[:-1] + b"x")
    with pytest.raises(RunError, match=r"tower.safetensors is damaged: its checksum"):
        read_model(copy)
    monkeypatch.setattr(folders, "MOST_BYTES", {**folders.MOST_BYTES, RECORD: 10})
    with pytest.raises(RunError, match="none of an exported model has over 10"):
        read_model(copy)
    (copy / RECORD).unlink()
    with pytest.raises(RunError, match=r"is .* an exported model"):
        read_model(copy)


def test_a_pipe_is_no_model(copy):
    (copy / TOWER).unlink()
    os.mkfifo(copy / TOWER)
    with pytest.raises(RunError, match=r"tower\.safetensors is no regular file"):
        read_model(copy)


def sealed(copy: Path, name: str) -> None:
    """Put a file's present checksum into the record, as whoever wants to harm does."""
    changed(copy, "sha256", name, to=sha256_of_file(copy / name))


def test_tensors_that_are_no_safetensors_are_never_unpickled(copy, tmp_path):
    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harmed",))

    (copy / HEAD).write_bytes(pickle.dumps(Harm()))
    sealed(copy, HEAD)
    with pytest.raises(RunError, match="not a whole safetensors file"):
        PersonalizedClassifier.load(copy)
    assert not (tmp_path / "harmed").exists()


def test_weights_that_are_missing_or_too_many_are_refused(copy):
    weights = load_file(copy / TOWER)
    save_file({**weights, "more": torch.zeros(1)}, copy / TOWER)
    sealed(copy, TOWER)
    with pytest.raises(BackboneError, match="Unexpected key"):
        read_model(copy).model(CPU)


def test_a_tower_whose_answers_are_no_numbers_is_refused(copy):
    weights = load_file(copy / TOWER)
    save_file({**weights, "proj": torch.full_like(weights["proj"], float("inf"))}, copy / TOWER)
    sealed(copy, TOWER)
    with pytest.raises(RunError, match="its answers are no numbers"):
        read_model(copy).model(CPU)


def test_half_precision_weights_are_computed_with_in_float32(copy):
    weights = load_file(copy / TOWER)
    save_file({name: value.half() for name, value in weights.items()}, copy / TOWER)
    sealed(copy, TOWER)
    model = read_model(copy).model(CPU)
    assert {value.dtype for value in model.visual.parameters()} == {torch.float32}
