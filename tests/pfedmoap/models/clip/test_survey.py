"""The table in docs/backbones.md, held against models of the same architectures."""

import pytest

from pfedmoap.errors import BackboneError
from pfedmoap.models.clip.survey import survey
from tests.helpers.places import ROOT

PAGE = ROOT / "docs" / "backbones.md"

ONE_OF_EACH_FORM = (
    "RN50",
    "ViT-B-16-quickgelu",
    "EVA02-B-16",
    "MobileCLIP-B",
    "MobileCLIP-S1",
    "coca_ViT-B-32",
    "ViT-B-16-SigLIP",
    "ViT-B-16-SigLIP2",
)


def documented(name: str) -> list[str]:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| {name} |")]
    assert len(rows) == 1
    return [cell.strip() for cell in rows[0].strip("|").split("|")]


@pytest.mark.parametrize("name", ONE_OF_EACH_FORM)
def test_the_documented_way_of_encoding_is_the_one_taken(name) -> None:
    found = survey(name, real_vision=False)
    assert documented(name)[2] == found.prompts
    assert (documented(name)[4] == "CLIP's") == (found.tokenizer == "CLIP")
    assert found.quick_gelu == name.endswith("-quickgelu")
    if found.largest_difference is not None:
        assert found.largest_difference < 1e-6


def test_the_documented_features_of_a_real_image_tower_are_given() -> None:
    found = survey("ViT-B-32")
    kinds = [kind for kind in found.feature_kinds if kind != "pixels"]
    assert documented("ViT-B-32")[3] == ", ".join(kinds)


def test_towers_that_only_transformers_has_are_named_as_such() -> None:
    with pytest.raises(BackboneError, match="roberta-base is fetched by the library transformers"):
        survey("roberta-ViT-B-32")
    assert documented("roberta-ViT-B-32")[2].startswith("**no**")
