"""Run the benchmark ``round``; ``--help`` explains every option."""

import sys

from eval.commands.bench import main

if __name__ == "__main__":
    main(["round", *sys.argv[1:]])
