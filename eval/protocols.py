"""The protocols that a run is tested by, besides its clients' own images, and their figures."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.experiment import Experiment, ExperimentLoader
from eval.generalisation import base_to_new, has_new_classes, on_left_out_domain, on_other_data
from pfedmoap.config.schema import Config, Section
from pfedmoap.engine.simulation import FederationState
from pfedmoap.errors import MethodError

logger = logging.getLogger(__name__)

Figures = dict[str, Any]  # JSON: accuracies by name, and those on other data by label


@dataclass(frozen=True)
class Protocols:
    """What a run is tested on in addition; nothing where options are chosen by validation images.

    Attributes:
        new_classes: The classes that it was not trained on (base to new).
        left_out: The domain that no client has (leave one domain out).
        elsewhere: Other data sets by label (cross-dataset), each as the section ``data``.
    """

    new_classes: bool
    left_out: bool
    elsewhere: Mapping[str, Section]

    @classmethod
    def of(cls, config: Config, elsewhere: Mapping[str, Section] | None = None) -> "Protocols":
        """The protocols that a configuration asks for.

        Args:
            config: The run's.
            elsewhere: Other data sets to test on.
        """
        sampling = config.sections["sampling"]
        if sampling["validation"]:
            return cls(new_classes=False, left_out=False, elsewhere={})
        return cls(
            new_classes=has_new_classes(config),
            left_out=sampling["left_out_domain"] is not None,
            elsewhere=dict(elsewhere or {}),
        )

    def done(self, found: Mapping[str, Any] | None) -> bool:
        """Whether figures say all that is asked for."""
        known = found or {}
        return (
            (not self.new_classes or "new" in known)
            and (not self.left_out or "left_out" in known)
            and set(self.elsewhere) <= set(known.get("elsewhere", {}))
        )

    def __bool__(self) -> bool:
        return self.new_classes or self.left_out or bool(self.elsewhere)


def figures_by(
    protocols: Protocols,
    experiment: Experiment,
    now: FederationState[Any],
    loader: ExperimentLoader,
) -> Figures:
    """Test a trained federation by every protocol.

    Args:
        protocols: Which.
        experiment: What was trained.
        now: Its state.
        loader: Reads the other data sets.

    Returns:
        Means over the clients that took part: ``own``, ``base``, ``new`` and ``harmonic`` for new
        classes, ``left_out``, and ``elsewhere`` by label; ``None`` where the method's models are
        bound to the classes that they were trained on, which is logged.
    """
    found: Figures = {}
    if protocols.new_classes:
        try:
            halves = base_to_new(experiment, now)
            found |= {name: getattr(halves, name) for name in ("own", "base", "new", "harmonic")}
        except MethodError as error:
            logger.warning("%s", error)
            found |= dict.fromkeys(("own", "base", "new", "harmonic"))
    if protocols.left_out:
        found["left_out"] = _mean(on_left_out_domain(experiment, now))
    if protocols.elsewhere:
        found["elsewhere"] = {}
        for label, section in protocols.elsewhere.items():
            try:
                accuracy = on_other_data(experiment, now, loader.other_dataset(section))
                found["elsewhere"][label] = _mean(accuracy)
            except MethodError as error:
                logger.warning("%s", error)
                found["elsewhere"][label] = None
    return found


def _mean(by_client: Mapping[Any, float]) -> float:
    return float(np.mean(list(by_client.values())))
