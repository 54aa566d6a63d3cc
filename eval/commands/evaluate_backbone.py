"""Print what the embedded backbone can do: zero-shot by style, digits, trained prompts."""

from collections.abc import Sequence
from pathlib import Path

import torch

from eval.commands.errors import readable_errors
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.data.digits import Digits
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.clip.embedded import load_embedded
from pfedmoap.pretraining.evaluation import digit_wordings, zero_shot_by_style
from pfedmoap.pretraining.headroom import LEARNING_RATES, headroom


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, load, evaluate, print."""
    parser = command_parser(__doc__ or "")
    parser.add_argument("--weights", type=Path, help="another folder than the package's")
    parser.add_argument("--images", type=int, default=2000, help="images of each style")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parse(parser, arguments)
    torch.set_num_threads(args.threads)
    clip = FrozenCLIP(*load_embedded(args.weights), name="embedded")

    print("| style | class 58 | shape 32 | colour 12 | ... named | texture 6 | combos24 |")
    print("|---|---|---|---|---|---|---|")
    for style in zero_shot_by_style(clip, args.images, args.seed):
        named = "n/a" if style.colour_named is None else f"{style.colour_named:.3f}"
        print(
            f"| {style.style} | {style.kind:.3f} | {style.shape:.3f} | {style.colour:.3f} | "
            f"{named} | {style.texture:.3f} | {style.combination:.3f} |"
        )

    print("\n| wording of digits | zero-shot |\n|---|---|")
    for wording, accuracy in digit_wordings(clip, Digits().read()).items():
        print(f"| {wording} | {accuracy:.3f} |")

    print("\n| task | zero-shot | shots | start |", *(f"SGD {r} |" for r in LEARNING_RATES))
    print("|---|---|---|---|" + "---|" * len(LEARNING_RATES))
    for row in headroom(clip, args.seed):
        tuned = " | ".join(f"{accuracy:.3f}" for accuracy in row.tuned)
        print(f"| {row.task} | {row.zero_shot:.3f} | {row.shots} | {row.start} | {tuned} |")
