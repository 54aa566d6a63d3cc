"""Weights that cannot be read: what is wrong with them, and no advice that is dangerous or idle."""

import pickle

import pytest
import torch

from pfedmoap.errors import BackboneError
from pfedmoap.models.loading import BackboneOptions


class Trap:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("code of a weights file was run",))


@pytest.mark.parametrize("kind", ["noise", "truncated", "code", "empty"])
def test_a_damaged_file_is_not_answered_by_advice_to_run_its_code(kind: str, tmp_path):
    """Torch's message advises `weights_only=False`, which was passed on."""
    file = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(1000)}, file)
    whole = file.read_bytes()
    contents = {
        "noise": b"\x80\x04 no pickle at all" * 9,
        "truncated": whole[: len(whole) // 2],
        "code": pickle.dumps(Trap()),
        "empty": b"",
    }
    file.write_bytes(contents[kind])
    with pytest.raises(BackboneError) as refused:
        BackboneOptions("RN50", pretrained=str(file), device="cpu").load()
    message = str(refused.value)
    assert str(file) in message
    assert "weights_only" not in message
    assert "fetch" not in message
    assert "The file must hold the whole weights of RN50" in message


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("RN50", "/nowhere/weights.pt", "neither a file nor one of the tags of RN50"),
        ("RN50", "opena", "neither a file nor one of the tags of RN50 \\(openai"),
        ("local-dir:/nowhere", None, "there is no folder /nowhere"),
        ("lm:/nowhere", None, "there is no folder /nowhere"),
    ],
)
def test_a_wrong_path_is_not_answered_by_advice_to_download(
    model: str, pretrained: str | None, message: str
):
    with pytest.raises(BackboneError, match=message) as refused:
        BackboneOptions(model, pretrained=pretrained, device="cpu").load_any()
    assert "network" not in str(refused.value)
