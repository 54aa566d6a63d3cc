"""Run the benchmark ``images``; ``--help`` explains every option."""

import sys

from eval.commands.bench import main

if __name__ == "__main__":
    main(["images", *sys.argv[1:]])
