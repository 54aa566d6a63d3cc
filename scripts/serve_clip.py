"""Run the ``serve_clip`` command; ``--help`` explains every option."""

from eval.commands.serve_clip import main

if __name__ == "__main__":
    main()
