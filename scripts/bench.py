"""Run the ``bench`` command; ``--help`` explains every option."""

from eval.commands.bench import main

if __name__ == "__main__":
    main()
