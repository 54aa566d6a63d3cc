"""pFedMoAP: a personalised mixture of prompt experts (Luo et al., ICLR 2025, arXiv 2410.10114)."""

from pfedmoap.methods.pfedmoap.method import METHOD

__all__ = ["METHOD"]
