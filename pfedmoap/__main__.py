"""``python -m pfedmoap`` is the command ``pfedmoap``."""

from eval.cli import main

if __name__ == "__main__":
    main()
