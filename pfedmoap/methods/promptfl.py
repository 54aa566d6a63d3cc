"""PromptFL: the average of all clients' prompts (Guo et al., IEEE TMC 2024, arXiv 2208.11625).

Full title: "PromptFL: Let Federated Participants Cooperatively Learn Prompts Instead of Models --
Federated Learning in Age of Foundation Model", by T. Guo, S. Guo, J. Wang, X. Tang and W. Xu.

Each client starts from the global prompt, trains it on its own images and uploads it; the server
averages (FedAvg, arXiv 1602.05629). All clients classify with the new average.

Where we depart from the released code: the average is one of values, weighted by training-set size
as in FedAvg (the code collects references to one live tensor, so that its "average" is the
last client's prompt; ``uniform`` gives its unweighted mean); the step size is constant.
"""

from dataclasses import dataclass

from pfedmoap.methods.averaged_prompt import AveragedPrompt


@dataclass(frozen=True)
class PromptFL(AveragedPrompt):
    """The method with its hyperparameters; see `AveragedPrompt`."""


METHOD = PromptFL
