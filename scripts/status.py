"""Say how far a federation of sites is; see ``--help``."""

from eval.commands.status import main

if __name__ == "__main__":
    main()
