"""PromptFL + FT: PromptFL, then local fine-tuning before inference (arXiv 2208.11625, 2410.10114).

The baseline "PromptFL+FT" of pFedMoAP (Luo et al., "Mixture of Experts Made Personalized:
Federated Prompt Learning for Vision-Language Models", ICLR 2025), after the federated baseline of
Cheng, Chadha and Duchi, "Federated Asymptotics" (arXiv 2108.07313): rounds are exactly PromptFL's;
for inference each client tunes a copy of the final global prompt on its own training images.

How it is done here: the copy starts from the prompt that the server would send *now*, whether or
not the client took part in the last round, so that all clients are tuned from the same prompt. The
copy is never uploaded, and no later round starts from it. Number of epochs and optimiser of this
stage are not in the papers; we use ``fine_tune_epochs`` with the training's own optimiser, and a
random stream of its own. A client without training images predicts with the global prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from pfedmoap.client.privatizer import Mode, Privatizer
from pfedmoap.config.bounds import Count
from pfedmoap.contract.tasks import ClientTask
from pfedmoap.methods.averaged_prompt import AveragedPrompt
from pfedmoap.seeding import derive_seed
from pfedmoap.wire.messages import Arrays, ClientId, Download

TUNED = "tuned"


@dataclass(frozen=True)
class PromptFLFineTuned(AveragedPrompt):
    """The method with its hyperparameters.

    Attributes:
        fine_tune_epochs: Passes over the client's data before inference.
    """

    fine_tune_epochs: Count = 5

    def privacy_gap(self, mode: Mode) -> str | None:
        """Rounds are those of the base; the tuned copy is never uploaded."""
        return super().privacy_gap(mode)

    def personalise(
        self, tasks: Sequence[ClientTask], privatizer: Privatizer
    ) -> dict[ClientId, Arrays]:
        """Tune a copy of the global prompt for each client; it is not private and stays there."""
        results = self.fine_tuning.train([task for task in tasks if len(task.data)], privatizer)
        return {
            result.update.client: {TUNED: result.update.arrays["context"]} for result in results
        }

    def prompt_of(self, download: Download, local: Arrays | None) -> Arrays:
        """Classify with the tuned copy where there is one, else with the global prompt."""
        return {"context": (local or {}).get(TUNED, download.arrays["context"])}

    @cached_property
    def fine_tuning(self) -> "PromptFLFineTuned":
        """The method with the epochs and the random stream of the stage before inference."""
        training = replace(
            self.setting.training, epochs=self.fine_tune_epochs, local_steps=None, horizon="round"
        )
        seed = derive_seed(self.setting.seed, "fine-tuning")
        return replace(self, setting=replace(self.setting, training=training, seed=seed))


METHOD = PromptFLFineTuned
