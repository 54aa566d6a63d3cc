"""Run the ``serve_model`` command; ``--help`` explains every option."""

from eval.commands.serve_model import main

if __name__ == "__main__":
    main()
