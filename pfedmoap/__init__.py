"""Personalised federated prompt learning on CLIP-like models."""

from pfedmoap.errors import PFedMoAPError
from pfedmoap.inference import PersonalizedClassifier
from pfedmoap.methods.pfedmoap.attention_gate import AttentionGate
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.server.expert_pool import ExpertPool
from pfedmoap.wire.messages import ClientId, Download, Update

__all__ = [
    "AttentionGate",
    "ClientId",
    "Download",
    "ExpertPool",
    "FrozenCLIP",
    "PFedMoAPError",
    "PersonalizedClassifier",
    "Update",
]
__version__ = "0.1.0"
