"""Run the benchmark ``federation``; ``--help`` explains every option."""

import sys

from eval.commands.bench import main

if __name__ == "__main__":
    main(["federation", *sys.argv[1:]])
