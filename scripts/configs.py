"""Run the ``configs`` command; ``--help`` explains every option."""

from eval.commands.configs import main

if __name__ == "__main__":
    main()
