"""AdamW on float32 master weights for a model that may compute in bfloat16."""

import copy
from itertools import chain
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class MasterWeights(Generic[M]):
    """Trains ``masters`` through a working copy in bfloat16, or directly in float32.

    Attributes:
        working: The module to compute with; ``masters`` itself in float32.
        dtype: Number format that ``working`` expects of its inputs.
    """

    def __init__(
        self,
        masters: M,
        learning_rate: float,
        *,
        weight_decay: float,
        low_precision: bool,
    ) -> None:
        """Set up the optimiser.

        Args:
            masters: The module to train, float32.
            learning_rate: Peak rate; logit scales get five times of it and no decay.
            weight_decay: Decoupled decay of matrices; vectors and scalars are not decayed.
            low_precision: Compute in bfloat16.
        """
        self.dtype = torch.bfloat16 if low_precision else torch.float32
        self.working: M = copy.deepcopy(masters).to(self.dtype) if low_precision else masters
        self._pairs = list(zip(masters.parameters(), self.working.parameters(), strict=True))
        scales = [p for name, p in masters.named_parameters() if name.endswith("logit_scale")]
        matrices = [p for p in masters.parameters() if p.ndim >= 2]
        vectors = [p for name, p in masters.named_parameters()
                   if p.ndim < 2 and not name.endswith("logit_scale")]  # fmt: skip
        self._optimiser = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": weight_decay},
                {"params": vectors, "weight_decay": 0.0},
                {"params": scales, "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
        )
        self._peaks = (learning_rate, learning_rate, 5 * learning_rate)

    def step(self, loss: Tensor, rate: float) -> None:
        """Take one step down ``loss``.

        Args:
            loss: A scalar computed with ``working``.
            rate: Learning rate of this step, as a share of the peak.
        """
        loss.backward()
        for master, worker in self._pairs:
            if worker is not master:
                master.grad = None if worker.grad is None else worker.grad.float()
                worker.grad = None
        for group, peak in zip(self._optimiser.param_groups, self._peaks, strict=True):
            group["lr"] = peak * rate
        nn.utils.clip_grad_norm_(
            chain.from_iterable(g["params"] for g in self._optimiser.param_groups), 1.0
        )
        self._optimiser.step()
        self._optimiser.zero_grad()
        with torch.no_grad():
            for master, worker in self._pairs:
                if worker is not master:
                    worker.copy_(master)
