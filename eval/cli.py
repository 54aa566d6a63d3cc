"""The ``pfedmoap`` console command: the first word selects the command."""

import sys
from collections.abc import Sequence
from importlib import import_module

from eval.output import read_or_not
from pfedmoap import __version__

COMMANDS = {
    "demo": "the main job in one go, offline, in a minute",
    "train": "train personalised clients and test every one of them",
    "evaluate": "test every client of a run again",
    "predict": "classify image files with one client's personal model",
    "export": "write one client's model into a folder of its own, with ONNX where asked for",
    "compare": "run methods x tasks x seeds and tabulate them",
    "sweep": "try many options, choose by held-out training images, test the best",
    "report": "make one HTML page of runs or of a comparison",
    "reproduce": "run the published tables, and print ours beside the paper's figures",
    "audit": "measure a lower bound of the privacy loss",
    "attack": "let hostile clients into a federation, and tabulate what each defence saves",
    "leakage": "infer what uploads tell about clients: their classes, and membership",
    "check-method": "hold a method of your own to the contract of all methods",
    "bench": "measure speed and memory against the plain way of doing the same",
    "faults": "put random faults on a tiny run, and tabulate how they end",
    "repair": "save what can be saved of a damaged run",
    "privacy": "plan the privacy of a run, state what it spent, and verify a statement",
    "ledger": "show what clients have spent of their privacy budgets",
    "disclosure": "say how much of a protected model FedSP's auxiliary shows",
    "serve": "be the server of a federation of sites on machines of their own",
    "join": "take part in a federation with one site's own data",
    "make-keys": "make certificates and keys for a federation of sites",
    "status": "say how far a federation of sites is, and who takes part",
    "example-sites": "write folders of images to try a federation of sites with",
    "forget": "erase a client that has left from a run or a federation",
    "serve-clip": "serve a model over HTTP to clients that may only ask it",
    "serve-model": "serve one client's personal model over HTTP",
    "configs": "list the configurations that come with the package, and copy them",
    "doctor": "examine installation, machine, cache and backbone, and say what is wrong",
    "cache": "list, verify and prune the cache of image features",
    "completion": "print the script that completes commands and options in a shell",
    "survey-backbones": "try open_clip's architectures and tabulate what works",
    "evaluate-backbone": "tabulate what the embedded model can do",
    "pretrain-backbone": "make the embedded model anew",
}


def usage() -> str:
    """Make the text of ``pfedmoap --help``."""
    width = max(len(name) for name in COMMANDS)
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: pfedmoap COMMAND [OPTIONS]",
            "       pfedmoap --version",
            "",
            "Personalised federated prompt learning on CLIP-like models.",
            "",
            *lines,
            "",
            "`pfedmoap COMMAND --help` explains the options of a command. Flags need no value.",
            "`pfedmoap completion bash` (zsh, tcsh) prints what completes options in your shell.",
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
    if not words or words[0] in ("-h", "--help", "--version"):
        version = words[:1] == ["--version"]
        with read_or_not():
            sys.stdout.write(f"pfedmoap {__version__}\n" if version else usage() + "\n")
        return
    name = words[0].replace("_", "-")
    if name not in COMMANDS:
        from pfedmoap.config.suggestions import nearest  # not needed for --help

        near = nearest(name, COMMANDS)
        hint = f"nearest: {', '.join(near)}" if near else f"there are: {', '.join(COMMANDS)}"
        sys.stderr.write(f"error: there is no command {words[0]}; {hint}\n")
        sys.exit(2)
    from pfedmoap.config.exact_options import called  # not needed for --help

    with called(f"pfedmoap {name}"):
        import_module(f"eval.commands.{name.replace('-', '_')}").main(words[1:])


if __name__ == "__main__":
    main()
