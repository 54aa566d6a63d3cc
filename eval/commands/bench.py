"""``bench``: measure this package against the plain way of doing the same."""

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

from eval.commands.errors import readable_errors
from eval.commands.nested import Part, run_part
from pfedmoap.config.exact_options import command_parser, parse

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
    parts = {name: Part(about, partial(_run, name)) for name, about in PARTS.items()}
    about = "Measure this package against the plain way of doing the same, in the same run."
    run_part(parts, arguments, about, "part")


def options_of(benchmark: ModuleType, words: Sequence[str]) -> dict[str, Any]:
    """Read the options of a benchmark, which are the arguments of its ``main``.

    Args:
        benchmark: Its module.
        words: The command line after its name.

    Returns:
        Values by name, of the types that ``main`` has.

    Raises:
        ConfigError: Something is wrong with an option.
        SystemExit: Help was asked for.
    """
    parser = command_parser(benchmark.__doc__ or "")
    parser.add_function_arguments(benchmark.main, as_group=False)
    given = parse(parser, words).as_dict()
    return {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}


def _run(part: str, words: Sequence[str]) -> None:
    benchmark = import_module(f"eval.benchmarks.{part}")
    benchmark.main(**options_of(benchmark, words))
