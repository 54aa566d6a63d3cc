"""``completion``: print the script that completes commands and options in a shell."""

import sys
from collections.abc import Sequence

from eval.cli import COMMANDS
from eval.commands.errors import readable_errors
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.config.suggestions import none_such
from pfedmoap.errors import ConfigError


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Print a script; see ``--help``."""
    parser = command_parser(
        "Print a script that completes commands, options and their choices in a shell. For bash: "
        'eval "$(pfedmoap completion bash)", or keep it in '
        "~/.local/share/bash-completion/completions/pfedmoap; zsh keeps it as _pfedmoap in a "
        "folder of its fpath; tcsh sources it."
    )
    parser.add_argument("shell", type=str, help="bash, zsh or tcsh")
    shell = parse(parser, arguments).shell
    from eval.completion import SHELLS, completion_script

    if shell not in SHELLS:
        raise ConfigError(none_such("completion for shell", shell, SHELLS))
    sys.stdout.write(completion_script(shell, COMMANDS) + "\n")
