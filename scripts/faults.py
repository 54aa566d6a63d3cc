"""Run the ``faults`` command; ``--help`` explains every option."""

from eval.commands.faults import main

if __name__ == "__main__":
    main()
