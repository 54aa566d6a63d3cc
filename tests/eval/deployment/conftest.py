"""Flower is in the extra ``flower``, which `make test` has; runs on other versions are without."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("flwr") else ["test_*.py"]
