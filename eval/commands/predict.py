"""``predict``: classify image files with one client's personal model."""

from collections.abc import Sequence

from rich.table import Table

from eval.commands.errors import readable_errors
from eval.console import console
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.data.images import printable
from pfedmoap.inference import Answer, PersonalizedClassifier


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Classify images; see ``--help``."""
    parser = command_parser("Classify image files with one client's personal model.")
    parser.add_argument("run", type=str, help="run directory")
    parser.add_argument("images", type=str, nargs="+", help="image files")
    parser.add_argument("--client", type=int, required=True, help="whose model")
    options = parse(parser, arguments)
    classifier = PersonalizedClassifier.load(options.run, options.client)
    table = Table(title=f"client {options.client}", title_justify="left")
    for heading in ("image", "class", "probability", "runner-up", "gate: whose prompts"):
        table.add_column(heading)
    for path, answer in zip(options.images, classifier.classify(options.images), strict=True):
        (best, probability), *others = answer.ranking
        table.add_row(
            printable(path),
            best,
            f"{probability:.3f}",
            ", ".join(f"{name} ({p:.3f})" for name, p in others[:1]),
            _experts(answer),
        )
    console.print(table)


def _experts(answer: Answer) -> str:
    if answer.attention is None:
        return "no gate"
    return ", ".join(f"{who} {weight:.2f}" for who, weight in answer.attention[:4])
