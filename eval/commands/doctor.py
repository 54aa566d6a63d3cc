"""``doctor``: say in one page what a maintainer would ask first."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from rich.table import Table

from eval.commands.errors import readable_errors
from eval.console import console
from eval.doctor.backbone import look_at_backbone
from eval.doctor.finding import Finding
from eval.doctor.machine import look_at_machine
from pfedmoap.config.schema import Config, Schema
from pfedmoap.data.federation import Features
from pfedmoap.models.loading import BackboneOptions

SCHEMA = Schema(
    fixed={"backbone": BackboneOptions, "features": Features},
    choices={},
    defaults={},
    aliases={"device": ("backbone.device",)},
)


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Examine; see ``--help``."""
    config, options = SCHEMA.parse(
        arguments,
        "Examine the installation, the machine, the feature cache and a backbone: the embedded "
        "one, or --backbone.model NAME --backbone.pretrained TAG. Ends with exit code 1 where "
        "something is wrong, and says what to do.",
        {"json": (False, "print JSON")},
    )
    found = [*examine(config)]
    wrong = [finding for finding in found if finding.status == "wrong"]
    if options["json"]:
        document = {"sound": not wrong, "findings": [asdict(finding) for finding in found]}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        _show(found)
    if wrong:
        sys.exit(1)


def examine(config: Config) -> Iterator[Finding]:
    """Look at everything.

    Args:
        config: The sections ``backbone`` and ``features``.

    Yields:
        What is found.
    """
    options: BackboneOptions = config.build("backbone")
    yield from look_at_machine(options.device, config.build("features").cache)
    yield from look_at_backbone(options)


def _show(found: Sequence[Finding]) -> None:
    table = Table(show_header=False, padding=(0, 1))
    for finding in found:
        text = finding.found + (f"\nTo do: {finding.remedy}" if finding.remedy else "")
        table.add_row(finding.name, finding.status.replace("wrong", "WRONG"), text)
    console.print(table)
    wrong = sum(finding.status == "wrong" for finding in found)
    console.print("nothing is wrong" if not wrong else f"wrong: {wrong} of {len(found)}")
