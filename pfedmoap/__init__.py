"""Personalised federated prompt learning on CLIP-like models.

The names below are imported when they are first used, so that ``import pfedmoap`` costs nothing.
Those from `eval.api` put all parts together, and lie above this package; this file is the one door
to them. No other module of the core may import `eval`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors read; `PLACES` says the same to Python
    from eval.api.callbacks import Callback, RoundReport
    from eval.api.classifier import FederatedPromptClassifier
    from eval.api.run import Evaluation, Run, load
    from eval.api.trackers import tracker
    from eval.api.training import train
    from pfedmoap.errors import PFedMoAPError
    from pfedmoap.inference import PersonalizedClassifier
    from pfedmoap.methods.pfedmoap.attention_gate import AttentionGate
    from pfedmoap.models.clip.clip import FrozenCLIP
    from pfedmoap.server.expert_pool import ExpertPool
    from pfedmoap.wire.messages import ClientId, Download, Update

__all__ = [
    "AttentionGate",
    "Callback",
    "ClientId",
    "Download",
    "Evaluation",
    "ExpertPool",
    "FederatedPromptClassifier",
    "FrozenCLIP",
    "PFedMoAPError",
    "PersonalizedClassifier",
    "RoundReport",
    "Run",
    "Update",
    "load",
    "tracker",
    "train",
]
__version__ = "0.2.0"

PLACES = {
    "AttentionGate": "pfedmoap.methods.pfedmoap.attention_gate",
    "Callback": "eval.api.callbacks",
    "ClientId": "pfedmoap.wire.messages",
    "Download": "pfedmoap.wire.messages",
    "Evaluation": "eval.api.run",
    "ExpertPool": "pfedmoap.server.expert_pool",
    "FederatedPromptClassifier": "eval.api.classifier",
    "FrozenCLIP": "pfedmoap.models.clip.clip",
    "PFedMoAPError": "pfedmoap.errors",
    "PersonalizedClassifier": "pfedmoap.inference",
    "RoundReport": "eval.api.callbacks",
    "Run": "eval.api.run",
    "Update": "pfedmoap.wire.messages",
    "load": "eval.api.run",
    "tracker": "eval.api.trackers",
    "train": "eval.api.training",
}

if not TYPE_CHECKING:  # a module's __getattr__ would make type checkers take any name

    def __getattr__(name: str) -> Any:
        """Import a public name at its first use (PEP 562)."""
        if name not in PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(PLACES[name]), name)
        return found

    def __dir__() -> list[str]:
        """All names, also those that are not imported yet."""
        return sorted({*globals(), *__all__})
