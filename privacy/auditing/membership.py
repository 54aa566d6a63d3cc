"""Membership inference: how well scores separate members from others."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve


@dataclass(frozen=True)
class Separation:
    """How well an attack tells members from non-members.

    Attributes:
        auc: Area under the ROC curve; 0.5 is guessing.
        tpr_at_1_fpr: True positive rate at a false positive rate of 1 %; 0.01 is guessing.
    """

    auc: float
    tpr_at_1_fpr: float


def separation(scores: NDArray[np.float64], member: NDArray[np.bool_]) -> Separation:
    """Measure an attack.

    Args:
        scores: Higher where the attack believes in membership, (m,).
        member: The truth, (m,).

    Returns:
        The figures; those of guessing where there are only members, or none.
    """
    if member.all() or not member.any():
        return Separation(0.5, 0.01)
    false, true, _ = roc_curve(member, scores)
    reached = float(true[false <= 0.01].max())
    return Separation(float(roc_auc_score(member, scores)), reached)
