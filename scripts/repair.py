"""Run the ``repair`` command; ``--help`` explains every option."""

from eval.commands.repair import main

if __name__ == "__main__":
    main()
