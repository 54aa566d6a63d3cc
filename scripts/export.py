"""Run the ``export`` command; ``--help`` explains every option."""

from eval.commands.export import main

if __name__ == "__main__":
    main()
