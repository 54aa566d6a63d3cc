"""The ``pfedmoap`` console command: one word chooses the command, the rest are its options."""

import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "demo": "the main job in one go, offline, in a minute",
    "train": "train personalised clients and test every one of them",
    "evaluate": "test every client of a run again",
    "predict": "classify image files with one client's personal model",
    "compare": "run methods x tasks x seeds and tabulate them",
    "report": "make one HTML page of runs or of a comparison",
    "audit": "measure a lower bound of the privacy loss",
    "check-method": "hold a method of your own to the contract of all methods",
    "ledger": "show what clients have spent of their privacy budgets",
}


def usage() -> str:
    """What ``pfedmoap --help`` says."""
    width = max(len(name) for name in COMMANDS)
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: pfedmoap COMMAND [OPTIONS]",
            "",
            "Personalised federated prompt learning on CLIP-like models.",
            "",
            *lines,
            "",
            "`pfedmoap COMMAND --help` explains every option of a command.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; modules are imported only once one is chosen.

    Args:
        arguments: The command line without the program; ``None`` takes the process's own.

    Raises:
        SystemExit: There is no such command, or it failed.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(usage() + "\n")
        return
    name = words[0]
    if name not in COMMANDS:
        sys.stderr.write(f"error: no command {name!r}\n\n{usage()}\n")
        sys.exit(2)
    if arguments is None:
        sys.argv = [f"pfedmoap {name}", *words[1:]]  # what a command's own --help calls it
    import_module(f"eval.commands.{name.replace('-', '_')}").main(words[1:])


if __name__ == "__main__":
    main()
