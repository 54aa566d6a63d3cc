"""Print the table of ``docs/backbones.md``: build and try each architecture."""

from collections.abc import Sequence

import torch

from eval.commands.errors import readable_errors
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.errors import BackboneError
from pfedmoap.models.clip.survey import Finding, survey, weight_tags

_NAMES = """
RN50 RN50-quickgelu RN101-quickgelu ViT-B-32 ViT-B-32-quickgelu ViT-B-16 ViT-B-16-quickgelu
ViT-L-14 ViT-L-14-quickgelu ViT-H-14 convnext_base_w EVA02-B-16 EVA02-L-14 PE-Core-B-16 ViTamin-S
MobileCLIP-B MobileCLIP2-B MobileCLIP-S1 MobileCLIP-S2 MobileCLIP2-S0 MobileCLIP2-S2 coca_ViT-B-32
coca_ViT-L-14 ViT-B-16-SigLIP ViT-B-16-SigLIP2 ViT-H-14-CLIPA roberta-ViT-B-32
"""
ARCHITECTURES = tuple(_NAMES.split())
FAMILIES = ("openai", "laion2b", "datacomp", "webli", "merged2b", "dfn", "meta")


def row(name: str, found: Finding | str) -> str:
    """One line of the table; ``found`` is a text where the architecture does not work."""
    tags = weight_tags(name)
    shown = [next((t for t in tags if t.startswith(family)), None) for family in FAMILIES]
    weights = ", ".join(f"`{tag}`" for tag in shown if tag) or f"`{tags[0]}`"
    if isinstance(found, str):
        return f"| {name} | {weights} | **no**: {found} | - | Hugging Face |"
    kinds = ", ".join(kind for kind in found.feature_kinds if kind != "pixels")
    tokenizer = "CLIP's" if found.tokenizer == "CLIP" else "Hugging Face"
    return f"| {name} | {weights} | {found.prompts} | {kinds} | {tokenizer} |"


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parse(command_parser(__doc__ or ""), arguments)
    torch.set_num_threads(1)
    print("| architecture | weights such as | prompts | image features | tokeniser |")
    print("|---|---|---|---|---|")
    for name in ARCHITECTURES:
        try:
            print(row(name, survey(name)), flush=True)
        except BackboneError as error:
            print(row(name, str(error).removeprefix(f"{name}: ")), flush=True)
