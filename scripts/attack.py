"""Run the ``attack`` command; ``--help`` explains every option."""

from eval.commands.attack import main

if __name__ == "__main__":
    main()
