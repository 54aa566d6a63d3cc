"""Serve one client's personal model over HTTP: an image in, probabilities of classes out."""

from collections.abc import Sequence

from eval.classifier_service import classifier_service
from eval.commands.errors import readable_errors
from eval.serving_options import add_place, place_of, serve
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.inference import PersonalizedClassifier
from pfedmoap.serving.limits import ServingLimits
from pfedmoap.serving.listener import Listener, require_extra

LARGEST_BYTES = 32 * 2**20  # of an image file


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, load, serve until interrupted."""
    parser = command_parser(__doc__ or "")
    parser.add_argument(
        "model", type=str, help="run directory, folder of `export`, or hf-hub:user/repo"
    )
    parser.add_argument("--client", type=int | None, help="whose model, of a run")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add_place(parser, 8081)
    options = parse(parser, arguments)
    require_extra()
    place = place_of(options)
    classifier = PersonalizedClassifier.load(options.model, options.client, options.device)
    service = classifier_service(classifier)
    with Listener(service, place, ServingLimits(body_bytes=LARGEST_BYTES)) as listener:
        whose = "" if options.client is None else f"client {options.client} of "
        serve(listener, f"{whose}{options.model}")
