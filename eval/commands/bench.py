"""``bench``: measure this package against the plain way of doing the same."""

import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from eval.commands.errors import readable_errors
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.config.introspection import is_asked, show_parser

PARTS = {
    "step": "a training step and a round against the plain way",
    "round": "rounds: captured steps against the plain loop, private ones against plain ones",
    "privacy": "private steps against plain ones, and against one backward pass an example",
    "evaluation": "the evaluation of many clients against one client after the other",
    "images": "encoding image files",
    "pool": "the pool of experts against a flat FAISS index",
    "engine": "what a round costs beside training",
    "federation": "messages of a federation beside Flower's own strategy",
    "startup": "how long commands take to start",
    "classes": "training a prompt for 1,000 classes; takes 8 GiB",
    "all": "all but classes, one after the other; writes a page of tables",
}


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Run a benchmark; see ``--help``."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in PARTS and not is_asked():
        _run(words[0], words[1:])
        return
    listed = "; ".join(f"`{name}`: {about}" for name, about in PARTS.items())
    parser = command_parser(
        f"Measure this package against the plain way, in the same run. {listed}. "
        "`pfedmoap bench step --help` and so on explain each one's options."
    )
    parser.add_argument("part", choices=tuple(PARTS), help="what to measure")
    show_parser(parser)
    parse(parser, words)


def options_of(part: str, benchmark: ModuleType, words: Sequence[str]) -> dict[str, Any]:
    """Read the options of a benchmark, which are the arguments of its ``main``.

    Args:
        part: Its name.
        benchmark: Its module.
        words: The command line after its name.

    Returns:
        Values by name, of the types that ``main`` has.

    Raises:
        ConfigError: Something is wrong with an option.
        SystemExit: Help was asked for.
    """
    parser = command_parser(benchmark.__doc__ or "")
    parser.prog += f" {part}"
    parser.add_function_arguments(benchmark.main, as_group=False)
    given = parse(parser, words).as_dict()
    return {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}


def _run(part: str, words: Sequence[str]) -> None:
    benchmark = import_module(f"eval.benchmarks.{part}")
    benchmark.main(**options_of(part, benchmark, words))
