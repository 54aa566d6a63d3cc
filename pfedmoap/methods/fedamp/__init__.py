"""Prompt + FedAMP: each client gets its own mix of similar clients' prompts (arXiv 2007.03797)."""

from pfedmoap.methods.fedamp.method import METHOD

__all__ = ["METHOD"]
