"""Serve a CLIP model over HTTP as a black box: images and texts in, logits out."""

from collections.abc import Sequence

import torch

from eval.commands.errors import readable_errors
from eval.serving_options import add_place, place_of, serve
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.models.blackbox.in_process import InProcessModel
from pfedmoap.models.blackbox.server import Endpoint
from pfedmoap.models.loading import BackboneOptions
from pfedmoap.serving.listener import require_extra


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, load, serve until interrupted."""
    parser = command_parser(__doc__ or "")
    parser.add_argument("--model", default="embedded", help="as --backbone.model of train.py")
    parser.add_argument("--pretrained", help="as --backbone.pretrained")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add_place(parser, 8080)
    options = parse(parser, arguments)
    require_extra()
    place = place_of(options)
    torch.set_grad_enabled(False)
    backbone = BackboneOptions(options.model, options.pretrained, device=options.device).load()
    with Endpoint(InProcessModel(backbone), place) as endpoint:
        serve(endpoint, backbone.name)
        print(f"answered {endpoint.served.queries} queries")
