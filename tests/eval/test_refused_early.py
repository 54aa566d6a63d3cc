"""What can be refused is refused before an image is encoded."""

from typing import Any

import pytest
from PIL import Image

import pfedmoap.data.federation as federation
from eval.choices import schema
from eval.experiment import ExperimentLoader
from pfedmoap.errors import BackboneError, ConfigError, DataError, PrivacyError
from pfedmoap.models.clip.clip import FrozenCLIP

LONG = "word " * 100


class EncodedError(Exception):
    """An image was encoded."""


@pytest.fixture
def no_image_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(*_: Any, **__: Any) -> None:
        raise EncodedError

    monkeypatch.setattr(federation, "cached_features", encode)


@pytest.mark.usefixtures("no_image_is_encoded")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"method": {"gate_heads": 7, "gate_width": 128}},
            ConfigError,
            "not a multiple of its 7 heads",
        ),
        ({"method": {"gate_width": 256}}, ConfigError, "exceeds the backbone's feature width"),
        ({"method": {"context_init": "a photo"}}, ConfigError, "context length is 16"),
        ({"method": {"context_length": 500}}, BackboneError, "needs 506 positions"),
        ({"method": {"name": "promptfl", "context_init": "a"}}, ConfigError, "context length"),
        ({"method": {"name": "zero_shot", "template": LONG + "{}"}}, BackboneError, "no free one"),
        ({"method": {"name": "zero_shot", "template": "a photo"}}, ConfigError, "no {} in"),
        ({"method": {"name": "zero_shot", "template": "{"}}, ConfigError, "no {} in"),
        ({"method": {"name": "fedpgp", "template": LONG + "{}"}}, BackboneError, "no free one"),
        ({"method": {"name": "fedsp"}}, ConfigError, "server_shots 4"),
        (
            {"method": "fedamp", "server": {"aggregation": "multi_krum"}},
            ConfigError,
            "server.aggregation multi_krum would change nothing: fedamp averages nothing",
        ),
        (
            {"method": "promptfl", "privacy": "central", "server": {"aggregation": "median"}},
            PrivacyError,
            "server.aggregation median has no analysis",
        ),
        (
            {"method": "promptfl", "privacy": "central", "server": {"max_examples": 50}},
            PrivacyError,
            "max_examples are not applied",
        ),
        ({"privacy": "central"}, PrivacyError, "cannot be trained in mode 'central'"),
        ({"method": "pfpt", "privacy": "dpsgd"}, PrivacyError, "vote"),
        ({"method": "fed_bbpt", "privacy": "dpsgd"}, PrivacyError, "FedBBPT cannot"),
        ({"privacy": {"name": "dpsgd", "unit": "group"}}, PrivacyError, "whose each image is"),
        ({"privacy": {"name": "dpsgd", "delta": 1e-300}}, PrivacyError, "accountant resolves"),
    ],
)
def test_nothing_is_encoded_for_what_is_refused(
    loader: ExperimentLoader, options: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        loader.prepare(schema().resolve(options))


@pytest.mark.usefixtures("no_image_is_encoded")
def test_what_is_not_refused_is_encoded():
    with pytest.raises(EncodedError):
        ExperimentLoader(progress=False).prepare(schema().resolve({"privacy": "dpsgd"}))


@pytest.mark.usefixtures("no_image_is_encoded")
@pytest.mark.parametrize(
    "method",
    [
        "zero_shot",
        "pfpt",
        "fed_bbpt",
        {"name": "fed_bbpt", "variant": "text"},
        {"name": "fed_bbpt", "variant": "words"},
        "fedsp",
        "promptfl",
        "pfedmoap",
        "fedpgp",
        "fedotp",
    ],
)
@pytest.mark.parametrize("name", [LONG, " "])
def test_a_class_name_beyond_the_models_tokens_is_an_error_in_every_method(
    loader: ExperimentLoader, method: Any, name: str, tmp_path
):
    """Names came out cut off in silence, so that two classes could be the same."""
    rows = ["image,label"]
    for i, label in enumerate((name, "a cat", name, "a cat", name, "a cat")):
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / f"{i}.png")
        rows.append(f'{i}.png,"{label}"')
    (tmp_path / "data.csv").write_text("\n".join(rows) + "\n")
    options = {
        "data": {"name": "csv", "file": str(tmp_path / "data.csv")},
        "partition": {"name": "iid", "clients": 1},
        "sampling": {"server_shots": 1},
        "method": method,
    }
    with pytest.raises((BackboneError, DataError), match=r"shorter|without a name|no label|empty"):
        loader.prepare(schema().resolve(options))


def test_a_text_that_just_fits_is_not_refused():
    clip = FrozenCLIP.embedded()
    most = clip.tokenizer([""]).shape[1] - 2  # without the start and end tokens
    assert len(clip.tokenise(["a " * (most - 1)])) == 1
    with pytest.raises(BackboneError, match="left out in silence"):
        clip.tokenise(["a cat", "a " * (most + 1)])
