"""Run the ``survey_backbones`` command; ``--help`` explains every option."""

from eval.commands.survey_backbones import main

if __name__ == "__main__":
    main()
