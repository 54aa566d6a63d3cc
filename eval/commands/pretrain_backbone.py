"""Pretrain the small CLIP that ships inside the package, from nothing, on rendered scenes."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from eval.commands.errors import readable_errors
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.data.scenes.captions import vocabulary_words
from pfedmoap.models.loading import resolve_device
from pfedmoap.pretraining.files import write_backbone, write_merges
from pfedmoap.pretraining.training import PretrainingOptions, backbone_config, pretrain


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, pretrain, write."""
    defaults = PretrainingOptions()
    parser = command_parser(__doc__ or "")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--label-steps", type=int, default=defaults.label_steps)
    parser.add_argument("--caption-steps", type=int, default=defaults.caption_steps)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    args = parse(parser, arguments)

    logging.getLogger("pfedmoap").setLevel(logging.INFO)
    torch.set_num_threads(args.threads)
    options = PretrainingOptions(
        label_steps=args.label_steps,
        caption_steps=args.caption_steps,
        low_precision=args.precision == "bf16",
        seed=args.seed,
    )
    context_length = backbone_config(0)["text_cfg"]["context_length"]
    tokenizer = write_merges(args.out, vocabulary_words(), context_length)
    config = backbone_config(tokenizer.vocab_size)
    start = time.perf_counter()
    model = pretrain(config, tokenizer, options, resolve_device(args.device))
    write_backbone(args.out, model, config)
    print(f"wrote {args.out} after {(time.perf_counter() - start) / 60:.1f} minutes")
