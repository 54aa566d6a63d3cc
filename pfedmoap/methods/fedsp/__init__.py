"""FedSP: a prompt as the messenger between a model nobody may have and its stand-in."""

from pfedmoap.methods.fedsp.method import METHOD

__all__ = ["METHOD"]
