"""Erase a client that has left; see ``--help``."""

from eval.commands.forget import main

if __name__ == "__main__":
    main()
