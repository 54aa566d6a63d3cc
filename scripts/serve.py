"""Serve a federation of sites; see ``--help``."""

from eval.commands.serve import main

if __name__ == "__main__":
    main()
