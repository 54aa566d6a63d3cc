"""Run the ``ledger`` command; ``--help`` explains every option."""

from eval.commands.ledger import main

if __name__ == "__main__":
    main()
