"""FedOpt-PT: prompts moved by a server-side Adam (Reddi et al., ICLR 2021, arXiv 2003.00295).

Full title: "Adaptive Federated Optimization", by S. Reddi, Z. Charles, M. Zaheer, Z. Garrett, K.
Rush, J. Konecny, S. Kumar and H. B. McMahan, on the visual prompts of PFPT (arXiv 2502.19752),
whose baseline it is. The clients' average move away from what they were sent is the server's
negative gradient: ``m = b1 m + (1 - b1) move``, ``v = b2 v + (1 - b2) move^2`` and ``P = P +
server_learning_rate * m / (sqrt(v) + adaptivity)`` (Algorithm 2, FedAdam).

Where we depart: clients run Adam like those of the other methods here, where the paper's run SGD
(``optimiser="sgd"``); v starts at 0, where the paper starts at the square of its adaptivity or
more. With the paper's decays, 0.9 and 0.99, the first step is then of the size of the server's step
size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pfedmoap.client.privatizer import Mode
from pfedmoap.config.bounds import Decay, Positive
from pfedmoap.methods.prompt_set import PromptSet
from pfedmoap.prompts.set_elements import PROMPTS
from pfedmoap.server.aggregation import combine
from pfedmoap.wire.messages import Arrays, Update

FIRST, SECOND = "first", "second"  # decayed means of the average moves and of their squares


@dataclass(frozen=True)
class FedOptPT(PromptSet):
    """The method with its hyperparameters.

    Attributes:
        server_learning_rate: The server's step size.
        first_decay: Decay of the mean move (their beta_1).
        second_decay: Decay of the mean squared move (their beta_2).
        adaptivity: What keeps the denominator away from zero (their tau).
    """

    server_learning_rate: Positive = 0.01
    first_decay: Decay = 0.9
    second_decay: Decay = 0.99
    adaptivity: Positive = 1e-3

    def init(self) -> Arrays:
        """Start from one random set, with zero moments."""
        start = super().init()
        return {**start, **{name: torch.zeros_like(start[PROMPTS]) for name in (FIRST, SECOND)}}

    def privacy_gap(self, mode: Mode) -> str | None:
        """See `HasPrivacyAnalysis`: the server's step is a function of the average alone."""
        return None if mode == "central" else super().privacy_gap(mode)

    def aggregate(self, state: Arrays, updates: Sequence[Update]) -> Arrays:
        """Take one step of Adam along the average move (Algorithm 2, FedAdam)."""
        if not updates:
            return state
        before = {PROMPTS: state[PROMPTS]}
        move = combine(before, updates, self.weighting, self.setting.server)[PROMPTS]
        move = move - state[PROMPTS]
        first = state[FIRST].lerp(move, 1 - self.first_decay)
        second = state[SECOND].lerp(move.square(), 1 - self.second_decay)
        step = self.server_learning_rate * first / (second.sqrt() + self.adaptivity)
        return {PROMPTS: state[PROMPTS] + step, FIRST: first, SECOND: second}

    def aggregation_gap(self) -> str | None:
        """See `AveragesByRule`: the pseudo-gradient is the move of that average."""
        return None


METHOD = FedOptPT
