"""Run the benchmark ``evaluation``; ``--help`` explains every option."""

import sys

from eval.commands.bench import main

if __name__ == "__main__":
    main(["evaluation", *sys.argv[1:]])
