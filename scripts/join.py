"""Take part in a federation with one site's own data; see ``--help``."""

from eval.commands.join import main

if __name__ == "__main__":
    main()
