"""Run the benchmark ``engine``; ``--help`` explains every option."""

import sys

from eval.commands.bench import main

if __name__ == "__main__":
    main(["engine", *sys.argv[1:]])
