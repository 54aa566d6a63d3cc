"""Run the benchmark ``privacy``; ``--help`` explains every option."""

import sys

from eval.commands.bench import main

if __name__ == "__main__":
    main(["privacy", *sys.argv[1:]])
