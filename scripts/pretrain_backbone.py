"""Run the ``pretrain_backbone`` command; ``--help`` explains every option."""

from eval.commands.pretrain_backbone import main

if __name__ == "__main__":
    main()
