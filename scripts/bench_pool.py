"""Run the benchmark ``pool``; ``--help`` explains every option."""

import sys

from eval.commands.bench import main

if __name__ == "__main__":
    main(["pool", *sys.argv[1:]])
