"""``evaluate``: test every client of a finished run again."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from eval.accuracy import domain_means, summarise
from eval.client_csv import BEGINNING, write_client_csv
from eval.commands.errors import readable_errors
from eval.console import client_table, console, figures_table, summary_table
from eval.experiment import ExperimentLoader
from eval.holdout import validation_note
from eval.protocols import Protocols, figures_by
from eval.running import load_outcome
from pfedmoap.config.bounds import shown
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.config.schema import Section
from pfedmoap.errors import ConfigError
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.storage.own_files import refuse_foreign_file

_HALVES = {
    "own": "own base classes",
    "base": "all base classes",
    "new": "new classes",
    "harmonic": "harmonic mean of base and new",
}


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate a run; see ``--help``."""
    parser = command_parser("Test every client of a run, as after its last round.")
    parser.add_argument("run", type=str, help="run directory")
    parser.add_argument("--csv", type=str | None, help="also write the table to this file")
    parser.add_argument(
        "--on",
        type=str | None,
        help="other data to test on as well, with their own classes, such as oxford_pets or "
        "'{name: folder, root: PATH}', or a list of them",
    )
    parser.add_argument("--data.root", type=str | None, help="where the data are, if they moved")
    options = parse(parser, arguments)
    if options.csv:
        refuse_foreign_file(Path(options.csv), BEGINNING, "a table of clients")
    run, loader = RunDirectory(options.run), ExperimentLoader()
    experiment, now = load_outcome(run, loader, options["data.root"])
    scores = experiment.test(now)
    title = f"{experiment.config.name('method')} on {experiment.federation.dataset.name}"
    console.print(client_table(scores, f"{title}, after round {now.round}"))
    console.print(summary_table(summarise(scores), title))
    if (note := validation_note(experiment.config.sections)) is not None:
        console.print(note)
    if means := domain_means(scores):
        console.print(figures_table(means, "personalised accuracy by domain"))
    protocols = Protocols.of(experiment.config, other_data(options.on))
    tested = figures_by(protocols, experiment, now, loader)
    if "new" in tested:
        _show(tested, _HALVES, "from base to new classes, mean over clients")
    if "left_out" in tested:
        domain = experiment.config.sections["sampling"]["left_out_domain"]
        _show(tested, {"left_out": domain}, "on the domain left out")
    if "elsewhere" in tested:
        elsewhere = tested["elsewhere"]
        _show(elsewhere, {name: name for name in elsewhere}, "on other data")
    if options.csv:
        write_client_csv(Path(options.csv), scores, private=run.divided)


def other_data(given: str | None) -> dict[str, Section]:
    """Read ``--on``: a name, options as in the section ``data``, or a list of such, as YAML.

    Returns:
        Options by the name of the data set.

    Raises:
        ConfigError: It is something else.
    """
    try:
        found = [] if given is None else yaml.safe_load(given)
    except yaml.YAMLError as error:
        raise ConfigError(f"--on is not valid YAML: {' '.join(str(error).split())}") from error
    sections: dict[str, Section] = {}
    for one in found if isinstance(found, list) else [found]:
        section = {"name": one} if isinstance(one, str) else one
        if not isinstance(section, dict) or not isinstance(section.get("name"), str):
            raise ConfigError(
                f"--on must be a data set such as oxford_pets or '{{name: folder, root: PATH}}', "
                f"or a list of them, got {shown(one)}"
            )
        label = section["name"]
        sections[label if label not in sections else f"{label} {len(sections) + 1}"] = section
    return sections


def _show(found: Mapping[str, float | None], names: Mapping[str, str], title: str) -> None:
    known = {text: figure for key, text in names.items() if (figure := found[key]) is not None}
    if known:
        console.print(figures_table(known, title))
