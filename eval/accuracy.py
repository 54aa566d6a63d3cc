"""Accuracy by client, of the personal models and of the global one.

*Personalised*: each client's own model on its own test images; the mean over **all** clients that
may take part is unweighted. *Global*: the server's model, on each client's test images and on
their union. *Unseen*: clients held out from every round, with what the server sends a newcomer.
Figures are those of the last round; no best round is selected.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from eval.calibration import reliability_of
from eval.fairness import jain_index, spread, worst_decile
from eval.predictions import (
    NOBODY,
    ClientPredictions,
    IntArray,
    predict_clients,
    states_for_prediction,
)
from pfedmoap.client.privatizer import Privatizer
from pfedmoap.contract.method import Method
from pfedmoap.data.federation import Federation
from pfedmoap.engine.simulation import FederationState
from pfedmoap.wire.messages import ClientId

S = TypeVar("S")


@dataclass(frozen=True)
class ClientScore:
    """One client's figures.

    Attributes:
        client: The client.
        domain: Its main domain, if there are domains.
        train_images: Size of its training set.
        test_images: Size of its test set.
        accuracy: Of its personal model on its test images.
        macro_f1: Of its personal model, over the classes in its test set.
        ece: Expected calibration error of its personal model.
        global_accuracy: Of the global model on its test images; ``None`` without such a model.
        unseen: Whether it was held out and never took part.
    """

    client: ClientId
    domain: str | None
    train_images: int
    test_images: int
    accuracy: float
    macro_f1: float
    ece: float
    global_accuracy: float | None
    unseen: bool = False


@dataclass(frozen=True)
class Summary:
    """Figures over all clients that may take part; ``unseen_mean`` is over the others.

    Attributes:
        clients: How many.
        mean: Unweighted mean of the personalised accuracies.
        weighted_mean: The same weighted by test images.
        std: Standard deviation over clients (population).
        worst_decile: Mean accuracy of the worst tenth of the clients, at least one.
        jain: Jain's fairness index of the personalised accuracies.
        macro_f1: Unweighted mean of the clients' macro-F1.
        ece: Unweighted mean of the clients' calibration errors.
        global_mean: Unweighted mean over clients of the global model's accuracy.
        global_union: Accuracy of the global model on the union of the test sets.
        unseen_mean: Unweighted mean over held-out clients; ``None`` where there are none.
    """

    clients: int
    mean: float
    weighted_mean: float
    std: float
    worst_decile: float
    jain: float
    macro_f1: float
    ece: float
    global_mean: float | None
    global_union: float | None
    unseen_mean: float | None = None


def evaluate(
    method: Method[S],
    now: FederationState[S],
    federation: Federation,
    privatizer: Privatizer | None = None,
    unseen: frozenset[ClientId] = NOBODY,
    *,
    private: bool = False,
) -> tuple[ClientScore, ...]:
    """Test every client, whether or not it ever took part.

    Args:
        method: The method.
        now: State of server and clients; not changed.
        federation: The clients' data.
        privatizer: How a method that tunes before inference forms gradients.
        unseen: Clients that are held out from all training.
        private: Whether the federation promises differential privacy; see `predict_clients`.

    Returns:
        One score for each client, in the order of ids.
    """
    local_states = states_for_prediction(method, now, federation, privatizer, unseen)
    return score(predict_clients(method, now, local_states, federation, unseen, private=private))


def score(predictions: Sequence[ClientPredictions]) -> tuple[ClientScore, ...]:
    """Compute each client's figures from its predictions."""
    return tuple(_score(one) for one in predictions)


def summarise(scores: Sequence[ClientScore]) -> Summary:
    """Average the clients' scores to the figures of a table.

    Args:
        scores: At least one score of a client that may take part.

    Returns:
        The summary.
    """
    seen = [score for score in scores if not score.unseen]
    unseen = [score.accuracy for score in scores if score.unseen]
    accuracy = [score.accuracy for score in seen]
    sizes = np.array([score.test_images for score in seen], dtype=np.float64)
    tested = [score for score in seen if score.global_accuracy is not None]
    shared = [score.global_accuracy for score in tested if score.global_accuracy is not None]
    return Summary(
        clients=len(seen),
        mean=float(np.mean(accuracy)),
        weighted_mean=float(np.average(accuracy, weights=sizes)),
        std=spread(accuracy),
        worst_decile=worst_decile(accuracy),
        jain=jain_index(accuracy),
        macro_f1=float(np.mean([score.macro_f1 for score in seen])),
        ece=float(np.mean([score.ece for score in seen])),
        global_mean=float(np.mean(shared)) if shared else None,
        global_union=float(np.average(shared, weights=[one.test_images for one in tested]))
        if shared
        else None,
        unseen_mean=float(np.mean(unseen)) if unseen else None,
    )


def domain_means(scores: Sequence[ClientScore]) -> dict[str, float]:
    """Average the personalised accuracy over the clients of each main domain, by its name."""
    found: dict[str, list[float]] = {}
    for one in scores:
        if one.domain is not None and not one.unseen:
            found.setdefault(one.domain, []).append(one.accuracy)
    return {domain: float(np.mean(values)) for domain, values in sorted(found.items())}


def record(scores: Sequence[ClientScore]) -> dict[str, Any]:
    """One round's line of metrics: the summary, and each client's accuracy."""
    return {
        "evaluation": asdict(summarise(scores)),
        "accuracy": {str(score.client): score.accuracy for score in scores},
    }


def macro_f1(labels: IntArray, predicted: IntArray) -> float:
    """Unweighted mean of the classes' F1, over the classes that there are images of.

    ``F1 = 2 tp / (images + predictions)``; what scikit-learn's ``f1_score`` gives for these labels,
    to the last bit and some thirty times faster for a few images.

    Args:
        labels: True classes, (n,).
        predicted: Predicted classes, (n,).

    Returns:
        The mean.

    Examples:
        >>> macro_f1(np.array([0, 0, 1]), np.array([0, 1, 1]))
        0.6666666666666666
    """
    classes, place = np.unique(labels, return_inverse=True)
    count = len(classes)
    found = np.searchsorted(classes, predicted).clip(max=count - 1)
    found = found[classes[found] == predicted]
    right = np.bincount(place[predicted == labels], minlength=count)
    both = np.bincount(place, minlength=count) + np.bincount(found, minlength=count)
    return float((2 * right / both).mean())


def _score(one: ClientPredictions) -> ClientScore:
    shared = None if one.shared is None else float((one.shared.predicted == one.labels).mean())
    return ClientScore(
        client=one.client,
        domain=one.domain,
        train_images=one.train_images,
        test_images=len(one.labels),
        accuracy=float((one.personal.predicted == one.labels).mean()),
        macro_f1=macro_f1(one.labels, one.personal.predicted),
        ece=reliability_of([one.personal], [one.labels]).ece,
        global_accuracy=shared,
        unseen=one.unseen,
    )
