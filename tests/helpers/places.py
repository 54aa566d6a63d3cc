"""Where the repository is, for tests that read its pages and start its commands."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
