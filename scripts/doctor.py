"""Run the ``doctor`` command; ``--help`` explains every option."""

from eval.commands.doctor import main

if __name__ == "__main__":
    main()
