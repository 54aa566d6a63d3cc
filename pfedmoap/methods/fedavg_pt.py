"""FedAvg-PT: a set of prompts, averaged position by position (McMahan et al., AISTATS 2017).

Full title: "Communication-Efficient Learning of Deep Networks from Decentralized Data", by H. B.
McMahan, E. Moore, D. Ramage, S. Hampson and B. Aguera y Arcas, arXiv 1602.05629, on the visual
prompts of PFPT (arXiv 2502.19752), whose baseline it is. The average pairs prompts by their place
in the set, which is the only difference from PFPT when ``selection`` is PFPT's.

As in the paper, all prompts are used for all images by default; ``selection: batch`` gives the
paper's second form of the baselines.
"""

from dataclasses import dataclass

from pfedmoap.methods.prompt_set import PromptSet


@dataclass(frozen=True)
class FedAvgPT(PromptSet):
    """The method with its hyperparameters; see `PromptSet`."""


METHOD = FedAvgPT
