"""Serve a CLIP model over HTTP as a black box: images and texts in, logits out."""

from collections.abc import Sequence

import torch

from eval.commands.errors import readable_errors
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.models.blackbox.in_process import InProcessModel
from pfedmoap.models.blackbox.server import Endpoint
from pfedmoap.models.loading import BackboneOptions


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, load, serve until interrupted."""
    parser = command_parser(__doc__ or "")
    parser.add_argument("--model", default="embedded", help="as --backbone.model of train.py")
    parser.add_argument("--pretrained", help="as --backbone.pretrained")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--port", type=int, default=8080, help="0 takes any free port")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="interface; there is neither encryption nor a password, so leave it on loopback and "
        "put a proxy with both in front to serve other machines",
    )
    options = parse(parser, arguments)
    torch.set_grad_enabled(False)
    backbone = BackboneOptions(options.model, options.pretrained, device=options.device).load()
    with Endpoint(InProcessModel(backbone), options.host, options.port) as endpoint:
        print(f"{backbone.name} at {endpoint.url}; stop with Ctrl-C", flush=True)
        try:
            endpoint.serve_forever()
        except KeyboardInterrupt:
            print(f"answered {endpoint.served.queries} queries")
