"""What the server signs: every byte of a message."""

import pytest
import torch

from pfedmoap.engine.flower.arrays import to_record
from pfedmoap.engine.flower.letters import seal, unseal
from pfedmoap.engine.flower.signing import Signer
from pfedmoap.errors import UpdateRejectedError

ARRAYS = {"context": torch.ones(2, 3), "experts": torch.zeros(3, 2)}


def changed(content, **arrays):
    said, _ = unseal(content)
    other = seal(said, to_record({**ARRAYS, **arrays}))
    content["pfedmoap.arrays"] = other["pfedmoap.arrays"]
    return content


def test_a_message_is_read_where_its_signature_is_the_known_keys(tmp_path):
    signer = Signer.kept_in(tmp_path / "server.key")
    content = seal({"round": 1}, to_record(ARRAYS), signer)
    said, _ = unseal(content, lambda record: signer.public)
    assert said == {"round": 1}
    again = Signer.kept_in(tmp_path / "server.key")
    assert again.public == signer.public
    assert (tmp_path / "server.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda content: changed(content, context=torch.ones(2, 3) * 2),
        lambda content: changed(content, context=torch.ones(3, 2)),
        lambda content: changed(content, context=torch.ones(2, 3).int()),
        lambda content: changed(content, more=torch.ones(1)),
        lambda content: seal({"round": 2}, content["pfedmoap.arrays"]),
    ],
)
def test_a_changed_message_is_refused(tmp_path, change):
    signer = Signer.kept_in(tmp_path / "server.key")
    content = change(seal({"round": 1}, to_record(ARRAYS), signer))
    with pytest.raises(UpdateRejectedError, match="not signed"):
        unseal(content, lambda record: signer.public)


@pytest.mark.parametrize("kind", ["train", "query.forget", ""])
def test_an_order_to_evaluate_does_not_serve_as_another(tmp_path, kind):
    """Whoever saw it could have a site train, and spend its budget, by sending it once more."""
    signer = Signer.kept_in(tmp_path / "server.key")
    content = seal({"round": 1}, to_record(ARRAYS), signer, "evaluate")
    assert unseal(content, lambda record: signer.public, "evaluate")[0] == {"round": 1}
    with pytest.raises(UpdateRejectedError, match="not signed"):
        unseal(content, lambda record: signer.public, kind)


@pytest.mark.parametrize("key", ["", "zz", "00" * 31])
def test_what_is_no_key_has_signed_nothing(tmp_path, key):
    content = seal({}, signer=Signer.kept_in(tmp_path / "server.key"))
    with pytest.raises(UpdateRejectedError, match="not signed"):
        unseal(content, lambda record: key)
