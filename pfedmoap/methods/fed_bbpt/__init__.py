"""Fed-BBPT: prompts learned through a black-box model (arXiv 2310.03123)."""

from pfedmoap.methods.fed_bbpt.method import METHOD

__all__ = ["METHOD"]
