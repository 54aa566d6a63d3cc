"""Run the ``disclosure`` command; ``--help`` explains every option."""

from eval.commands.disclosure import main

if __name__ == "__main__":
    main()
