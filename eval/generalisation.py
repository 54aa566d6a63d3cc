"""How trained models carry over: to new classes, to a domain left out, to other data sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from eval.experiment import Experiment
from eval.holdout import class_part, domain_part
from eval.predictions import ClientPredictions, predict_clients, states_for_prediction
from pfedmoap.config.schema import Config
from pfedmoap.contract.capabilities import CanPersonalise, IsBoundToClasses
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import ClientData
from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.feature_store import cache_folder
from pfedmoap.data.features import cached_features
from pfedmoap.data.federation import Features, Federation
from pfedmoap.engine.simulation import FederationState
from pfedmoap.errors import ConfigError, MethodError
from pfedmoap.wire.messages import ClientId


@dataclass(frozen=True)
class BaseToNew:
    """Accuracy of the personal models, each an unweighted mean over the clients that took part.

    Attributes:
        own: On the client's own test images of base classes.
        base: On the test images of all base classes, of all clients.
        new: On the test images of all new classes, with the encoder over the new names.
        by_client: (own, base, new) of each client.
    """

    own: float
    base: float
    new: float
    by_client: Mapping[ClientId, tuple[float, float, float]]

    @property
    def harmonic(self) -> float:
        """Harmonic mean of base and new accuracy."""
        return harmonic_mean([self.base, self.new])


def has_new_classes(config: Config) -> bool:
    """Whether a run is tested on new classes: trained on the others, and not one to choose by."""
    sampling = config.sections["sampling"]
    return sampling["classes"] == "base" and not sampling["validation"]


def harmonic_mean(values: Sequence[float]) -> float:
    """Harmonic mean of non-negative figures; 0 where one of them is 0."""
    array = np.asarray(values, dtype=np.float64)
    return 0.0 if (array == 0).any() else float(len(array) / (1 / array).sum())


def base_to_new(experiment: Experiment, now: FederationState[Any]) -> BaseToNew:
    """Test a federation that was trained on the base classes alone.

    The trained state is plain arrays without a class axis, so the same method over other class
    names can use it; a method whose state has a class axis raises an error.

    Args:
        experiment: Trained with ``sampling.classes`` set to ``base``.
        now: Its state; nothing of it is changed.

    Returns:
        The accuracies.

    Raises:
        ConfigError: The experiment was trained on all classes, or is tested on held-out training
            images (``sampling.validation``), so that no test image may be looked at.
        MethodError: The method's state does not carry over to other classes.
    """
    config = experiment.config
    if not has_new_classes(config):
        raise ConfigError(
            "base-to-new needs a run that was trained with sampling.classes=base, and without "
            "sampling.validation"
        )
    method = experiment.method
    if isinstance(method, IsBoundToClasses) and (why := method.class_bond()) is not None:
        raise MethodError(f"base-to-new cannot be had from {config.name('method')}: {why}")
    whole: ImageDataset = config.build("data").read()
    if (left_out := config.sections["sampling"]["left_out_domain"]) is not None:
        whole = domain_part(whole, left_out, left_out=False)
    parts = {part: class_part(whole, part) for part in ("base", "new")}
    local_states = states_for_prediction(
        experiment.method, now, experiment.federation, unseen=experiment.unseen
    )
    if isinstance(experiment.method, CanPersonalise):
        local_states = dict(local_states)  # read for each part: tuned once, where memory is enough
    found: dict[str, dict[ClientId, float]] = {}
    unseen, private = experiment.unseen, experiment.private
    own = predict_clients(
        experiment.method, now, local_states, experiment.federation, unseen, private=private
    )
    found["own"] = _accuracy(own)
    for part, dataset in parts.items():
        method = over_classes(experiment.method, dataset.class_names)
        found[part] = _tested_on(experiment, now, dataset, method)
    means = {part: float(np.mean(list(values.values()))) for part, values in found.items()}
    return BaseToNew(
        **means,
        by_client={
            client: (found["own"][client], found["base"][client], found["new"][client])
            for client in found["own"]
        },
    )


def on_left_out_domain(experiment: Experiment, now: FederationState[Any]) -> dict[ClientId, float]:
    """Test a federation on the domain that none of its clients has: leave one domain out.

    Args:
        experiment: Trained with ``sampling.left_out_domain``.
        now: Its state; nothing of it is changed.

    Returns:
        Accuracy of the model of each client that took part, on all test images of that domain.

    Raises:
        ConfigError: No domain was left out.
    """
    sampling = experiment.config.build("sampling")
    if sampling.left_out_domain is None:
        raise ConfigError("sampling.left_out_domain names no domain that was left out")
    whole = class_part(experiment.config.build("data").read(), sampling.classes)
    domain = domain_part(whole, sampling.left_out_domain, left_out=True)
    return _tested_on(experiment, now, domain, experiment.method)


def on_other_data(
    experiment: Experiment, now: FederationState[Any], dataset: ImageDataset
) -> dict[ClientId, float]:
    """Test a federation on another data set, with its classes and templates: cross-dataset.

    Args:
        experiment: What was trained.
        now: Its state; nothing of it is changed.
        dataset: The other data set.

    Returns:
        Accuracy of the model of each client that took part, on all test images of it.

    Raises:
        MethodError: The method's state does not carry over to other classes.
    """
    method = experiment.method
    same = dataset.class_names == experiment.federation.dataset.class_names
    if not same and isinstance(method, IsBoundToClasses) and (why := method.class_bond()):
        name = experiment.config.name("method")
        raise MethodError(f"{name} cannot be tested on {dataset.name}: {why}")
    made = over_classes(method, dataset.class_names, dataset.templates)
    return _tested_on(experiment, now, dataset, made)


def over_classes(
    method: AnyMethod, class_names: tuple[str, ...], templates: tuple[str, ...] | None = None
) -> AnyMethod:
    """Make the same method over other classes; every method is a dataclass with a ``setting``.

    Args:
        method: The method.
        class_names: The other classes.
        templates: Hand-written prompts for them; ``None`` keeps those that there are.
    """
    anything: Any = method  # the protocol does not speak of fields
    known = anything.setting
    setting = replace(known, class_names=class_names, templates=templates or known.templates)
    made: AnyMethod = replace(anything, setting=setting)
    return made


def _tested_on(
    experiment: Experiment, now: FederationState[Any], dataset: ImageDataset, method: AnyMethod
) -> dict[ClientId, float]:
    """Accuracy of each client that took part, on all test images of a data set."""
    unseen, private = experiment.unseen, experiment.private
    local_states = states_for_prediction(
        experiment.method, now, experiment.federation, unseen=unseen
    )
    federation = _everybody_tests(experiment, dataset)
    try:
        answers = predict_clients(method, now, local_states, federation, unseen, private=private)
    except (RuntimeError, ValueError) as error:  # torch reports shapes in either way
        raise MethodError(
            f"the state of {experiment.config.name('method')} does not carry over to "
            f"{dataset.name}: {error}"
        ) from error
    return _accuracy(answers)


def _everybody_tests(experiment: Experiment, dataset: ImageDataset) -> Federation:
    """Return the same clients, each with all test images of a data set."""
    options: Features = experiment.config.build("features")
    anything: Any = experiment.method  # as above
    kinds = tuple(experiment.method.features)
    table = cached_features(
        dataset,
        anything.setting.backbone,
        cache_folder(options.cache),
        kinds=kinds,
        batch_size=options.batch_size,
        progress=False,
    )
    index = np.flatnonzero(dataset.is_test)
    test = ClientData(
        {k: torch.from_numpy(np.array(table.centre(k)[index][:, None])) for k in kinds},
        torch.from_numpy(dataset.labels[index].astype(np.int64)),
    )
    clients = experiment.federation.clients.items()
    return Federation(dataset, {client: replace(own, test=test) for client, own in clients})


def _accuracy(predictions: Sequence[ClientPredictions]) -> dict[ClientId, float]:
    return {
        one.client: float((one.personal.predicted == one.labels).mean())
        for one in predictions
        if not one.unseen
    }
