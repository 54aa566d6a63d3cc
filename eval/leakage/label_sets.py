"""Which classes a client has, guessed from its uploads.

Training on a class makes it more probable everywhere. For each class c the observer adds up, over
rounds and its own images x, how much the upload raises the probability of c beside the prompt that
the client was sent: ``log p(c | x, end) - log p(c | x, start)``. It guesses the classes with the
largest sums.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from eval.leakage.observed import Observed
from pfedmoap.contract.tasks import Setting
from pfedmoap.models.clip.clip import PromptEncoder
from pfedmoap.prompts.tuning import classify


def right_guesses(
    seen: Observed, encoder: PromptEncoder, setting: Setting
) -> tuple[int, int, float]:
    """Guess each client's classes, as many as it has.

    Args:
        seen: What the observer holds.
        encoder: From contexts (E, L, W) to class features (E, C, D).
        setting: Backbone and class names.

    Returns:
        How many guesses were right, how many were made, and the share that chance would get right.
    """
    classes = len(setting.class_names)
    right = made = 0
    by_chance = 0.0
    for client, moves in seen.moves.items():
        truth = set(seen.clients[client].labels.tolist())
        score = torch.zeros(classes, dtype=torch.float64)
        for move in moves:
            end, start = (
                log_probabilities(prompt, seen, encoder, setting)
                for prompt in (move.end, move.start)
            )
            score += (end - start).mean(0)
        guess = set(score.topk(len(truth)).indices.tolist())
        right += len(guess & truth)
        made += len(truth)
        by_chance += len(truth) ** 2 / classes
    return right, made, by_chance / made


def log_probabilities(
    prompt: Tensor, seen: Observed, encoder: PromptEncoder, setting: Setting
) -> Tensor:
    """Log probabilities of the classes for the observer's own images, (n, C) float64."""
    image = seen.own.view()["image"]
    logits = classify(encoder, prompt, setting, image).logits.detach().cpu()
    return F.log_softmax(logits.double(), dim=-1)
