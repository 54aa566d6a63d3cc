"""``forget``: erase a client that has left from a run or a federation."""

from collections.abc import Callable, Sequence
from pathlib import Path

from eval.commands.errors import readable_errors
from eval.console import say
from eval.deployment.federation_file import FILE, RUN
from eval.erasure import erase
from eval.erasure_record import record_of
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.wire.messages import ClientId


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Erase, and say what stays; see ``--help``."""
    parser = command_parser(
        "Erase a client that has left: its prompt is in no file of the run any more, nor among the "
        "experts that others hold. Nothing is trained anew; a signed record says what stays of it. "
        "Stop the run or the server first. Sites are told when they are greeted next."
    )
    parser.add_argument("run", help="folder of the run, or of the federation")
    parser.add_argument("--client", type=int, required=True, help="number of the client")
    parser.add_argument("--key", help="operator's signing key, made if missing")
    options = parse(parser, arguments)
    folder = Path(options.run)
    federation = folder if (folder / FILE).exists() else folder.parent
    deployed = (federation / FILE).exists()
    run = federation / RUN if deployed else folder
    usual = federation / "server.key" if deployed else run.parent / "operator.key"
    client = ClientId(options.client)
    leave = _leave(federation, client) if deployed else None
    done = erase(run, client, Path(options.key) if options.key else usual, leave)
    others = (
        "sites that hold its expert erase it when they are greeted next"
        if deployed
        else f"{done.states_changed} other clients held its expert"
    )
    say(
        f"client {client} is erased from {run} after round {done.round}, at {done.at}; {others}. "
        f"What stays: {done.stays}."
    )
    say(f"signed record: {record_of(RunDirectory(run).layout, client)}")


def _leave(federation: Path, client: ClientId) -> Callable[[], None]:
    """Check that a federation knows a client; returns what takes it off the list of its sites."""
    from pfedmoap.engine.flower.members import Members

    Members.read(federation).named(client)
    return lambda: Members.read(federation).without(client).write(federation)
