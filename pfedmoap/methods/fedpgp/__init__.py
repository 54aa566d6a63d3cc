"""FedPGP: a global prompt plus a low-rank residual of the client's own (Cui et al., ICML 2024)."""

from pfedmoap.methods.fedpgp.method import METHOD

__all__ = ["METHOD"]
