"""PFPT: prompt sets merged by matching, not by position (Weng et al., NeurIPS 2024)."""

from pfedmoap.methods.pfpt.method import METHOD

__all__ = ["METHOD"]
