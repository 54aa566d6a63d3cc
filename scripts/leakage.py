"""Run the ``leakage`` command; ``--help`` explains every option."""

from eval.commands.leakage import main

if __name__ == "__main__":
    main()
