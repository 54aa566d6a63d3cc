"""Calibration: reliability bins and expected calibration error."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.predictions import Answers, IntArray
from pfedmoap.errors import DataError

FloatArray = NDArray[np.float64]
BINS = 15


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: equal bins of confidence, (lower, upper].

    Attributes:
        edges: Bin edges, (bins + 1,).
        counts: Images in each bin, (bins,).
        confidence: Mean confidence in each bin, (bins,); NaN where empty.
        accuracy: Share of right answers in each bin, (bins,); NaN where empty.
    """

    edges: FloatArray
    counts: IntArray
    confidence: FloatArray
    accuracy: FloatArray

    @property
    def ece(self) -> float:
        """Expected calibration error ``sum_b n_b / n |acc_b - conf_b|`` (Guo et al., 2017)."""
        gaps = np.abs(np.nan_to_num(self.accuracy - self.confidence))
        return float((self.counts / self.counts.sum() * gaps).sum())


def reliability(
    confidence: FloatArray, correct: NDArray[np.bool_], bins: int = BINS
) -> Reliability:
    """Sort answers into bins by their confidence.

    Args:
        confidence: Probability of the predicted class, (n,), in [0, 1].
        correct: Whether it is the true class, (n,).
        bins: Number of bins; with few images an estimate of the error is biased upwards.

    Returns:
        The diagram.

    Raises:
        DataError: There are no answers, or a confidence is not in [0, 1].
    """
    if not len(confidence) or confidence.shape != correct.shape:
        raise DataError(
            f"confidence has shape {confidence.shape} and correct {correct.shape}, "
            "expected the same (n,) with n at least 1"
        )
    if not ((confidence >= 0) & (confidence <= 1 + 1e-6)).all():
        raise DataError("a confidence is not in [0, 1]")
    edges = np.linspace(0.0, 1.0, bins + 1)
    index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(index, weights=confidence, minlength=bins) / counts
        right = np.bincount(index, weights=correct.astype(np.float64), minlength=bins) / counts
    return Reliability(edges, counts.astype(np.int64), mean, right)


def reliability_of(
    answers: Sequence[Answers], labels: Sequence[IntArray], bins: int = BINS
) -> Reliability:
    """Make one diagram of several clients' answers.

    Args:
        answers: Of each client.
        labels: True classes, for each client (n_i,).
        bins: Number of bins.

    Returns:
        The diagram of all their images together.
    """
    confidence = np.concatenate([each.confidence for each in answers])
    predicted = np.concatenate([each.predicted for each in answers])
    return reliability(confidence, predicted == np.concatenate(list(labels)), bins)
