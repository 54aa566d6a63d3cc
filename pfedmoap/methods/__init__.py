"""The federated methods, one file or folder each; the module's docstring names the paper."""
