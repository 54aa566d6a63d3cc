"""Run the benchmark ``classes``; ``--help`` explains every option."""

import sys

from eval.commands.bench import main

if __name__ == "__main__":
    main(["classes", *sys.argv[1:]])
