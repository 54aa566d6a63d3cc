"""Run the benchmark ``startup``; ``--help`` explains every option."""

import sys

from eval.commands.bench import main

if __name__ == "__main__":
    main(["startup", *sys.argv[1:]])
