"""A linear head that corrects a finished classifier on a client's few images.

Regularised multinomial logistic regression with fixed offsets ``o_i``, the log-probabilities of the
classifier that is corrected; ``V`` (C, D) minimises the convex

    sum_i cross-entropy(o_i + V x_i, y_i) + |V|^2 / (2 tau^2)

so that V is the most probable head if its entries are drawn from N(0, tau^2): one image moves it
little, many move it as they ask for. It has one minimum, found without a random draw.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

ACCURACY = 12  # an accelerated gradient comes nearer to the minimum by e^-ACCURACY
MOST_STEPS = 2000


def fit_head(image: Tensor, labels: Tensor, offset: Tensor, spread: float) -> Tensor:
    """Fit the head.

    Steps are Nesterov's for strongly convex functions, of the size that is safe here: the curvature
    is at most half of the largest eigenvalue of X^T X plus 1 / tau^2, and at least the latter.

    Args:
        image: Unit-norm image features, (n, D).
        labels: (n,).
        offset: Logits of the classifier that is corrected, (n, C).
        spread: tau, in units of logits; 0 corrects nothing.

    Returns:
        (C, D), without gradient; zero without an image.
    """
    head = image.new_zeros(offset.shape[1], image.shape[1])
    if not len(labels) or not spread:
        return head
    pull = spread**-2
    curvature = torch.linalg.matrix_norm(image.double(), 2).square().to(image.dtype) / 2 + pull
    rate = (pull / curvature).sqrt()
    momentum = (1 - rate) / (1 + rate)
    steps = min(MOST_STEPS, math.ceil(ACCURACY / float(rate)))
    target = F.one_hot(labels, offset.shape[1]).to(image.dtype)
    before = head
    with torch.no_grad():
        for _ in range(steps):
            ahead = head + momentum * (head - before)
            error = (offset + image @ ahead.T).softmax(-1) - target  # (n, C)
            before, head = head, ahead - (error.T @ image + pull * ahead) / curvature
    return head
