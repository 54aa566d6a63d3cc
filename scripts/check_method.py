"""Run the ``check-method`` command; ``--help`` explains every option."""

from eval.commands.check_method import main

if __name__ == "__main__":
    main()
