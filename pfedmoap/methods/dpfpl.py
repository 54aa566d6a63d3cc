"""DP-FPL: a global prompt and a local one in low-rank factors (Tran et al., ICLR 2025).

Full title: "Privacy-Preserving Personalized Federated Prompt Learning for Multimodal Large Language
Models", by L. Tran, W. Sun, S. Patterson and A. Milanova, arXiv 2501.13904. A client classifies
with P_g + P_i. It splits its own P_i into factors of a small rank and what they leave,

    P_i = U V + R,

and trains P_g, U, V and R; P_g alone is uploaded and averaged. With private steps, noise on the few
numbers of U and V costs less than on all of P_i, and R keeps what they cannot express.

Where we depart: P_i is split at the start of a client's round, where the paper splits it before
every step, and by singular values, where the paper takes a step of a power method. Noise is that of
this package's modes: ``joint`` clips the gradient of each example in all four parts together, while
the paper noises U and V at the client and P_g at the server, and clips means over batches. All
clients start from the same P_i, from the public seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

import torch
from torch import Tensor

from pfedmoap.client.privatizer import Mode, Privatizer
from pfedmoap.client.problem import Problem
from pfedmoap.config.bounds import Bounds
from pfedmoap.contract.stacking import TrainedClient, stack
from pfedmoap.contract.tasks import ClientResult, ClientTask, Prediction
from pfedmoap.methods.averaged_prompt import AveragedPrompt
from pfedmoap.prompts.tuning import classify, tune
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import Arrays


def split(own: Tensor, rank: int) -> dict[str, Tensor]:
    """Split prompts (K, L, W) into the best factors U (K, L, r) and V (K, r, W), and the rest R."""
    left, values, right = torch.linalg.svd(own, full_matrices=False)
    root = values[:, :rank].sqrt()
    u, v = left[:, :, :rank] * root.unsqueeze(1), root.unsqueeze(2) * right[:, :rank]
    return {"u": u, "v": v, "rest": own - u @ v}


def factored(params: Arrays) -> Tensor:
    """Put the prompts that clients classify with together, (K, L, W)."""
    return params["context"] + params["u"] @ params["v"] + params["rest"]


@dataclass(frozen=True)
class DPFPL(AveragedPrompt):
    """The method with its hyperparameters.

    Attributes:
        rank: Rank r of the factors.
    """

    rank: Annotated[int, Bounds(ge=1, le=1024)] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.layout.check_rank(self.rank)

    def privacy_gap(self, mode: Mode) -> str | None:
        """All four parts are in the private step; one is uploaded."""
        return super().privacy_gap(mode)

    @cached_property
    def own(self) -> Arrays:
        """The own prompt, (L, W), which is added to the global one."""
        stream = generator(self.setting.seed, "own prompt")
        width = self.setting.backbone.text_width
        return {"own": 0.02 * torch.randn(self.layout.rows, width, generator=stream)}

    def compose(self, params: Arrays) -> Tensor:
        """Add the global and the own prompts, (K, L, W)."""
        return params["context"] + params["own"]

    def train(self, tasks: Sequence[ClientTask], privatizer: Privatizer) -> list[ClientResult]:
        """Train the global prompt and the parts of the own one."""

        def begin(batch: list[ClientTask]) -> tuple[Problem, Arrays]:
            parts = [self.parts(task.download, task.local) for task in batch]
            start = stack(parts, self.setting.backbone.device)
            own = split(start.pop("own"), self.rank)
            return replace(self.problem(start), compose=factored), {**start, **own}

        return [self.divide(each) for each in tune(tasks, self.setting, privatizer, begin)]

    def divide(self, client: TrainedClient) -> ClientResult:
        """Upload the global prompt, and put the own one together again to keep it."""
        params = client.params
        own = params["u"] @ params["v"] + params["rest"]
        return client.result({"context": params["context"]}, keeps={"own": own})

    def predict_global(self, state: Arrays, features: Arrays) -> Prediction:
        """Classify with the global prompt alone."""
        return classify(self.encoder, state["context"], self.setting, features["image"])


METHOD = DPFPL
