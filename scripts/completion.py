"""Run the ``completion`` command; ``--help`` explains every option."""

from eval.commands.completion import main

if __name__ == "__main__":
    main()
