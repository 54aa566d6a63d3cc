"""``export``: write one client's model into a folder that needs neither the run nor its texts."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from eval.commands.errors import readable_errors
from eval.escaping import for_terminal
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.errors import ConfigError

LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,60}")

logger = logging.getLogger(__name__)


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, fold, write, and push where asked to."""
    parser = command_parser(
        "Write one client's model into a folder of safetensors, JSON and a model card, which "
        "`predict`, `serve-model` and pfedmoap.PersonalizedClassifier.load open without the run."
    )
    parser.add_argument(
        "run", type=str, help="run directory; or what `export` wrote, to --push it once more"
    )
    parser.add_argument("--client", type=int | None, help="whose model")
    parser.add_argument("--out", type=str | None, help="folder, absent or empty")
    parser.add_argument("--onnx", type=bool, default=False, help="write model.onnx, too")
    parser.add_argument(
        "--torch_export", type=bool, default=False, help="write model.pt2 of torch.export, too"
    )
    parser.add_argument(
        "--counts",
        type=bool,
        default=False,
        help="tell in the model card how many images of which class the client has",
    )
    parser.add_argument(
        "--metrics",
        type=bool | None,
        help="tell there how good the model is; by default unless the run is private",
    )
    parser.add_argument(
        "--license",
        type=str | None,
        help="licence of the backbone's weights, e.g. mit; by default what is known of them",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--push",
        type=str | None,
        help="upload the folder to this repository of the Hugging Face Hub, user/name; a new one "
        "is closed to others",
    )
    parser.add_argument(
        "--public", type=bool, default=False, help="make a new repository open to everybody"
    )
    options = parse(parser, arguments)
    from pfedmoap.exported.folder import is_exported
    from pfedmoap.exported.hub import check_repository, push

    if options.push is not None:
        check_repository(options.push)
    if options.public and options.push is None:
        raise ConfigError(
            "--public is for --push user/name: without it nothing leaves this machine"
        )
    folder = Path(options.run)
    if is_exported(folder):
        _refuse_for_folders(options)
    else:
        folder = _exported(options)
    if options.push is not None:
        place = push(folder, options.push, private=not options.public)
        print(for_terminal(f"pushed to {place}"))


def _exported(options: Namespace) -> Path:
    """Export a client's model, and say so; returns the folder."""
    from eval.exporting import ExportOptions, export_model

    if options.client is None or options.out is None:
        raise ConfigError("say whose model of the run, and where to: --client 3 --out model/")
    if options.license is not None and not LICENCE.fullmatch(options.license):
        raise ConfigError(
            f"--license must be a short name such as mit or apache-2.0, got {options.license!r}"
        )
    chosen = ExportOptions(
        onnx=options.onnx,
        torch_export=options.torch_export,
        counts=options.counts,
        metrics=options.metrics,
        licence=options.license,
    )
    written = export_model(options.run, options.client, options.out, chosen, options.device)
    for note in written.notes:
        logger.warning("%s", note)
    print(for_terminal(f"client {options.client} of {options.run}: {written.folder}"))
    return written.folder


def _refuse_for_folders(options: Namespace) -> None:
    """Refuse what is for runs where a folder is given that is exported already."""
    if options.push is None:
        raise ConfigError(
            f"{options.run} is an exported model already; give a run, or --push user/name"
        )
    given = [
        name
        for name in ("client", "out", "onnx", "torch_export", "counts", "metrics", "license")
        if options[name] not in (None, False)
    ]
    if given:
        raise ConfigError(
            f"{options.run} is an exported model, which is pushed as it is: "
            f"leave out --{', --'.join(given)}"
        )
