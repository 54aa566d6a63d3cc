"""GMM-PT: prompts clustered by a Bayesian Gaussian mixture, whose means are the new set."""

from pfedmoap.methods.gmm_pt.method import METHOD

__all__ = ["METHOD"]
