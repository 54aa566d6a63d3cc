"""Run the benchmark ``step``; ``--help`` explains every option."""

import sys

from eval.commands.bench import main

if __name__ == "__main__":
    main(["step", *sys.argv[1:]])
