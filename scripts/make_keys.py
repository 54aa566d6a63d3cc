"""Make certificates and keys for a federation of sites; see ``--help``."""

from eval.commands.make_keys import main

if __name__ == "__main__":
    main()
