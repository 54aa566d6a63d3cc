"""One client's model as a folder of its own, without the run."""
