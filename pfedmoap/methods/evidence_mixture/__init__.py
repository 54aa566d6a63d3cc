"""Evidence mixture: others' prompts, weighed by their likelihood of a client's own images."""

from pfedmoap.methods.evidence_mixture.method import METHOD

__all__ = ["METHOD"]
