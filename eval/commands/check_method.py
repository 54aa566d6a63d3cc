"""``check-method``: run the contract checks on a method, of this package or not."""

import sys
from collections.abc import Sequence
from typing import Any

from eval.commands.errors import readable_errors
from eval.console import say
from eval.contract.federation import SIZES, SmallFederation, noise_images, small_setting
from eval.contract.suite import run_checks
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.contract.method import AnyMethod
from pfedmoap.errors import ConfigError
from pfedmoap.methods.registry import method_class
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.clip.tiny import tiny_clip
from pfedmoap.wire.messages import ClientId

SERVER = ClientId(99)  # whose images are the server's own


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Check a method; see ``--help``."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    named = [word for word in words[:1] if not word.startswith("-")]
    parser = command_parser(
        "Check that a method keeps the contract that everything else relies on: on a "
        "small random CLIP with a few clients and images of noise, offline. Exit code 1 where it "
        "does not.",
    )
    parser.add_argument("which", type=str, help="a file that exports METHOD, or a method's name")
    if named:
        parser.add_class_arguments(method_class(named[0]), "method", skip={"setting"})
    elif not {"-h", "--help"} & set(words):
        raise ConfigError("say first which method to check: a file that exports METHOD, or a name")
    parsed = parse(parser, words)
    options: dict[str, Any] = vars(parsed.get("method", {})) if named else {}
    backbone = tiny_clip()
    failed = 0
    for name, problem in run_checks(prepare(parsed.which, options, backbone)):
        failed += problem is not None
        say(f"{'ok  ' if problem is None else 'FAIL'} {name}" + (f": {problem}" if problem else ""))
    if failed:
        say(f"{parsed.which}: {failed} checks failed")
        sys.exit(1)
    say(f"{parsed.which} keeps the contract")


def prepare(name: str, options: dict[str, Any], backbone: FrozenCLIP) -> SmallFederation:
    """Make a small federation that trains a method.

    Args:
        name: A file that exports ``METHOD``, or a method's name.
        options: Its options; others take their defaults.
        backbone: The model.

    Raises:
        PFedMoAPError: There is no such method, or its options or backbone do not suit it.
    """
    kind: Any = method_class(name)  # the protocol does not speak of fields
    setting = small_setting(backbone, noise_images(backbone, SERVER, 4))
    method: AnyMethod = kind(setting, **options)
    data = {client: noise_images(backbone, client, size) for client, size in SIZES.items()}
    return SmallFederation(method, data)
