"""How far a client's few images speak for each frozen expert, and the mixture that follows.

An expert that never saw the client's images is tested on them without bias, which the client's own
prompt is not. With the log-likelihood ``l_e(i) = log p_e(y_i | x_i)`` of image i under expert e::

    w_e = softmax_e(beta sum_i l_e(i)),    p(y | x) = sum_e w_e p_e(y | x)

beta = 1 is the posterior over experts under even odds, if one of them is right for all images; a
smaller beta says that none is, and that images of a class resemble one another. Everything here is
per client and stays there.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from pfedmoap.models.logits import cosine_logits

PSEUDO_COUNTS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""What `choose_pseudo_count` chooses from."""


def log_probabilities(image: Tensor, text: Tensor, scale: float) -> Tensor:
    """Log-probability of each class under each expert.

    Args:
        image: Unit-norm image features, (B, D).
        text: Unit-norm class features of E experts, (E, C, D).
        scale: The model's logit scale.

    Returns:
        (E, B, C).
    """
    return cosine_logits(image, text, scale).log_softmax(-1)


def likelihoods(known: Tensor, labels: Tensor) -> Tensor:
    """Pick the log-likelihood of each image's label: (E, n, C) and (n,) to (E, n)."""
    return known[:, torch.arange(len(labels), device=labels.device), labels]


def weigh(likelihood: Tensor, sharpness: float) -> Tensor:
    """Weigh experts by all images.

    Args:
        likelihood: Log-likelihood of each image under each expert, (E, n).
        sharpness: beta; 0 weighs evenly.

    Returns:
        (E,), sums to 1; even weights without an image.
    """
    return (sharpness * likelihood.sum(1)).softmax(0)


def weigh_without_each(likelihood: Tensor, sharpness: float) -> Tensor:
    """Weigh experts n times, each time by all images but one.

    The mixture with these weights has not seen the image that it is asked about, as it will be with
    new images; what is fitted on top of it would else trust it too little or too much.

    Args:
        likelihood: See `weigh`.
        sharpness: See `weigh`.

    Returns:
        (E, n); column i sums to 1 and does not depend on image i.
    """
    rest = likelihood.sum(1, keepdim=True) - likelihood
    return (sharpness * rest).softmax(0)


def with_own(weights: Tensor, own_weight: float) -> Tensor:
    """Put the own prompt before k experts, with a share that no evidence changes.

    It has seen the images, so that its likelihood of them says nothing. Without evidence it weighs
    ``own_weight`` where the k experts weigh k together.

    Args:
        weights: Of the experts, (k, ...), summing to 1; k may be 0.
        own_weight: Its weight against one expert's on average.

    Returns:
        (1 + k, ...), summing to 1.
    """
    k = len(weights)
    share = own_weight / (own_weight + k) if k else 1.0
    return torch.cat([torch.full_like(weights.sum(0), share)[None], (1 - share) * weights])


def mix(known: Tensor, weights: Tensor) -> Tensor:
    """Log-probability of each class under a mixture of experts.

    Args:
        known: Log-probabilities (E, B, C).
        weights: (E,), or (E, B) for weights of each image's own.

    Returns:
        (B, C); its exponentials sum to 1.
    """
    each = weights if weights.dim() == 2 else weights[:, None]
    return torch.logsumexp(known + each.log().unsqueeze(-1), 0)


def class_counts(labels: Tensor, classes: int) -> Tensor:
    """Count images by class: (n,) to (C,)."""
    return torch.bincount(labels, minlength=classes).float()


def class_prior(counts: Tensor, pseudo_count: float) -> Tensor:
    """Log-probability of each class by its share of images.

    Args:
        counts: Images of each class, (..., C).
        pseudo_count: Images of each class that are added to them; the larger, the more even.

    Returns:
        (..., C); the same for all classes where there is no image.
    """
    return (counts / pseudo_count).log1p().log_softmax(-1)


def choose_pseudo_count(mixture: Tensor, labels: Tensor) -> float:
    """Choose how far class counts are to be trusted, by each image from all others.

    A client with images of two classes may be one that only ever sees these, or one with few
    images. That the rest of its images foretells each one's class speaks for the former. The choice
    is the most probable one of `PSEUDO_COUNTS` under odds that fall with their square root, so that
    it takes some images to say that counts mean little::

        sum_i log p(y_i | x_i, counts without image i, a)  -  log(a) / 2

    Args:
        mixture: Log-probabilities of a mixture that has not seen the image, (n, C).
        labels: (n,).

    Returns:
        The pseudo-count.
    """
    own = F.one_hot(labels, mixture.shape[1]).float()
    rest = class_counts(labels, mixture.shape[1]) - own  # (n, C)
    scores = [
        float(((mixture + class_prior(rest, count)).log_softmax(-1) * own).sum())
        - math.log(count) / 2
        for count in PSEUDO_COUNTS
    ]
    return PSEUDO_COUNTS[scores.index(max(scores))]
