"""Run the ``evaluate_backbone`` command; ``--help`` explains every option."""

from eval.commands.evaluate_backbone import main

if __name__ == "__main__":
    main()
