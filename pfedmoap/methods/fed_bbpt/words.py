"""Discrete prompts: a choice of words, learned by policy gradient from answers alone.

Diao et al., "Black-box Prompt Learning for Pre-trained Language Models" (TMLR 2023, arXiv
2201.08531), eq. 4-7, which Fed-BBPT uses for text: one categorical distribution for each position.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pfedmoap.errors import ConfigError
from pfedmoap.methods.fed_bbpt.prompting import Asking
from pfedmoap.methods.fed_bbpt.spsa import Estimate
from pfedmoap.methods.fed_bbpt.training import Examples
from pfedmoap.models.blackbox.interface import (
    BlackBoxModel,
    Question,
    TextPrompt,
    Usage,
    ask_in_parts,
)

FIRST_WORDS = "a photo of a"
_WORDS = """
a an the of in on with one this my
photo picture image drawing sketch painting rendering scan
bright dark blurry noisy clean grey colourful negative
small large simple strange
"""
VOCABULARY = tuple(_WORDS.split())
START_LOGIT = 2.0  # of the initial words; that of the others is 0


@dataclass(frozen=True)
class WordPrompting:
    """Put L words of a public vocabulary in front of the class name: plain text, for any API.

    The parameters are the logits of L categorical distributions, (L V,); queries are made
    with the most probable words, the first of equals.

    Attributes:
        class_names: In label order.
        vocabulary: V words.
        start: The L words to begin with, all of them in the vocabulary.
    """

    class_names: tuple[str, ...]
    vocabulary: tuple[str, ...]
    start: tuple[str, ...]

    def __post_init__(self) -> None:
        unknown = sorted(set(self.start) - set(self.vocabulary))
        if unknown or not self.start or len(set(self.vocabulary)) != len(self.vocabulary):
            raise ConfigError(
                f"the first words are {self.start} and the vocabulary {self.vocabulary}; expected "
                "at least one word, all of them in the vocabulary, and no word twice in that"
            )

    @property
    def name(self) -> str:
        """The name of the distributions' parameters."""
        return "words"

    @property
    def parameters(self) -> int:
        """L times V."""
        return len(self.start) * len(self.vocabulary)

    def initial(self) -> Tensor:
        """Initial logits that favour the words of ``start``."""
        chosen = torch.tensor([self.vocabulary.index(word) for word in self.start])
        return START_LOGIT * F.one_hot(chosen, len(self.vocabulary)).float().flatten()

    def sentence(self, parameters: Tensor) -> str:
        """The most probable template."""
        chosen = parameters.view(len(self.start), -1).argmax(1).tolist()
        return " ".join([*(self.vocabulary[word] for word in chosen), "{}."])

    @property
    def longest(self) -> str:
        """A template as long as any that can be said, in characters."""
        return " ".join([*([max(self.vocabulary, key=len)] * len(self.start)), "{}."])

    def about(self, images: Tensor) -> Asking:
        """Prepare."""
        return lambda parameters: Question(
            images, TextPrompt(self.class_names, (self.sentence(parameters),))
        )


@dataclass(frozen=True)
class PolicyGradient:
    """The gradient of the expected loss over words that are drawn from the distributions.

    ``g = 1 / (I - 1) sum_i (L_i - mean L) grad log p(words_i)``, which is unbiased: the mean over
    the draws takes variance out (their eq. 7).

    Attributes:
        model: The black box.
        positions: Words L in a prompt.
        draws: Prompts I in a step, at least 2.
        images_per_call: Largest number of images in one request.
    """

    model: BlackBoxModel
    positions: int
    draws: int
    images_per_call: int

    def __post_init__(self) -> None:
        if self.draws < 2:
            raise ConfigError(f"words need at least 2 draws to compare, got {self.draws}")

    def queries(self, examples: int) -> int:
        """One for each example and draw."""
        return self.draws * examples

    @torch.no_grad()
    def estimate(
        self, weights: Tensor, ask: Asking, examples: Examples, k: int, stream: torch.Generator
    ) -> tuple[Estimate, Usage]:
        """Estimate; see `Estimator.estimate`."""
        del k
        probabilities = weights.view(self.positions, -1).softmax(1)  # (L, V)
        losses, scores, spent = [], [], Usage()
        for _ in range(self.draws):
            drawn = torch.multinomial(probabilities.cpu(), 1, generator=stream)[:, 0]
            said = F.one_hot(drawn, probabilities.shape[1]).to(weights)  # (L, V)
            answer = ask_in_parts(self.model, ask(said.flatten()), self.images_per_call)
            spent += answer.usage
            losses.append(examples.loss(answer.logits).to(weights))
            scores.append((said - probabilities).flatten())
        loss = torch.stack(losses)  # (I,)
        gradient = (loss - loss.mean()) @ torch.stack(scores) / (self.draws - 1)
        return Estimate(gradient, float(loss.mean())), spent
