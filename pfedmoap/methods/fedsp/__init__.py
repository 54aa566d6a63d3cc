"""FedSP: a soft prompt shared between a protected full model and clients' auxiliary models."""

from pfedmoap.methods.fedsp.method import METHOD

__all__ = ["METHOD"]
