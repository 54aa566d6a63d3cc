"""Run the ``reproduce`` command; ``--help`` explains every option."""

from eval.commands.reproduce import main

if __name__ == "__main__":
    main()
