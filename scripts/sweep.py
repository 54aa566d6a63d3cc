"""Run the ``sweep`` command; ``--help`` explains every option."""

from eval.commands.sweep import main

if __name__ == "__main__":
    main()
