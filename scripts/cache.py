"""Run the ``cache`` command; ``--help`` explains every option."""

from eval.commands.cache import main

if __name__ == "__main__":
    main()
