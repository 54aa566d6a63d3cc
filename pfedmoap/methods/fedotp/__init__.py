"""FedOTP: a shared and an own prompt, matched to image patches by optimal transport (CVPR 2024)."""

from pfedmoap.methods.fedotp.method import METHOD

__all__ = ["METHOD"]
