"""What a classifier has learned at all of its sites: small enough to copy, and plain to pickle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eval.api.options import Sections, resolved
from eval.experiment import Experiment
from eval.planning import refuse_what_it_lacks
from eval.running import train_rounds
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.config.schema import Config
from pfedmoap.contract.capabilities import NeedsServerData, personal_states
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.predicting import KeepsFeatures, PredictionTask, predictions
from pfedmoap.contract.tasks import ClientData, ClientTask
from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.federation import Client, Federation
from pfedmoap.data.splits import ClientSplit
from pfedmoap.errors import BackboneError
from pfedmoap.methods.made import make_method
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.loading import BackboneOptions
from pfedmoap.wire.messages import Arrays, ClientId, Download

ROWS = 64  # images that are classified together; fewer are filled up, see `probabilities`
TEMPLATES = ("a photo of a {}.",)

backbone_of = lru_cache(maxsize=1)(BackboneOptions.load)
"""Loads a backbone; the last one is kept, since a search over options fits many times."""


@dataclass(frozen=True)
class Fitted:
    """A trained federation, without its backbone and data.

    Attributes:
        sections: The configuration that it was trained with, by section.
        class_names: Names of the classes, in label order.
        sites: Number of sites; site i is client i.
        downloads: What the server would send each site now, and, last, a newcomer.
        kept: What each site keeps.
        privacy: The statement of the guarantee; empty where there is none.
        fingerprint: Of the backbone that it was learned with.
    """

    sections: Sections
    class_names: tuple[str, ...]
    sites: int
    downloads: tuple[Arrays, ...]
    kept: Mapping[ClientId, Arrays]
    privacy: Mapping[str, Any]  # JSON of any shape
    fingerprint: str

    def method(self) -> AnyMethod:
        """Make the method anew; its backbone is loaded where this process has not yet.

        Raises:
            BackboneError: It has other weights than it was learned with.
        """
        config = resolved(self.sections, {})
        backbone = _backbone(config)
        if backbone.fingerprint != self.fingerprint:
            raise BackboneError(
                f"this classifier was trained with other weights of {backbone.name} than those "
                "that are loaded now; its prompts mean nothing to them"
            )
        return make_method(config, backbone, self.class_names, TEMPLATES)

    def probabilities(
        self, method: AnyMethod, features: Mapping[str, Tensor], clients: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Classify images, each with the model of one site.

        Images are classified site by site, in blocks of one size: for a block of another size, or
        beside another site's, products would be rounded otherwise in the last place.

        Args:
            method: What `method` has returned.
            features: By kind, (n, ...).
            clients: Whose model classifies each image, (n,); ``sites`` for a newcomer's.

        Returns:
            Probabilities, (n, C).
        """
        found = np.zeros((len(clients), len(self.class_names)))
        for client in np.unique(clients).tolist():
            who = ClientId(client)
            download = Download(1, who, self.downloads[client])
            rows = np.flatnonzero(clients == client)
            blocks = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]

            def ask(
                block: NDArray[np.int64], who: ClientId = who, download: Download = download
            ) -> PredictionTask:
                index = torch.from_numpy(np.resize(block, ROWS))
                some = {kind: values[index] for kind, values in features.items()}
                return PredictionTask(download, self.kept.get(who), some)

            with torch.no_grad():
                answers = predictions(method, map(ask, blocks))
                for block, answer in zip(blocks, answers, strict=True):
                    logits = answer.logits[: len(block)].double()
                    found[block] = logits.softmax(-1).cpu().numpy()
        return found


def method_for(config: Config, class_names: Sequence[str]) -> AnyMethod:
    """Make the method of a configuration for data in memory.

    Raises:
        ConfigError: Its server needs data of its own, which there are none of here.
    """
    method = make_method(config, _backbone(config), tuple(class_names), TEMPLATES)
    if isinstance(method, NeedsServerData):
        refuse_what_it_lacks(method)
    return method


def fit(
    config: Config,
    method: AnyMethod,
    features: Mapping[str, Tensor],
    labels: NDArray[np.int64],
    clients: NDArray[np.int64],
) -> Fitted:
    """Train a federation on data in memory, as `pfedmoap.train` trains one on disk.

    Args:
        config: The configuration; its data, partition and sampling are not used.
        method: What `method_for` has made of it.
        features: By kind, (n, ...).
        labels: (n,).
        clients: Whose each image is, (n,), numbers from 0 without a gap.

    Returns:
        What was learned.

    Raises:
        PFedMoAPError: The method cannot be trained in this way.
    """
    class_names = method.setting.class_names
    federation = _federation(class_names, features, labels, clients)
    experiment = Experiment(config, federation, method, config.build("privacy"))
    privatizer = experiment.privatizer(None)
    final = train_rounds(experiment, privatizer)
    if isinstance(method, KeepsFeatures):  # so that answers are those of a state that is read back
        method.release_features()
    everybody = [*federation.clients, ClientId(len(federation.clients))]
    planned = {one.client: one for one in method.plan(final.state, everybody, final.round + 1)}
    tasks = [
        ClientTask(planned[client], final.local_states.get(client), own.train)
        for client, own in federation.clients.items()
    ]
    states = personal_states(method, tasks, NoPrivacy())
    return Fitted(
        dict(config.sections),
        class_names,
        len(federation.clients),
        tuple(planned[client].arrays for client in everybody),
        {client: local for client, local in states.items() if local is not None},
        privatizer.describe(),
        method.setting.backbone.fingerprint,
    )


def _backbone(config: Config) -> FrozenCLIP:
    return backbone_of(config.build("backbone"))


def _federation(
    class_names: Sequence[str],
    features: Mapping[str, Tensor],
    labels: NDArray[np.int64],
    clients: NDArray[np.int64],
) -> Federation:
    """Put data in memory into the form of a federation; there are no test images."""
    nothing = np.zeros(0, dtype=np.int64)

    def part(rows: NDArray[np.int64]) -> ClientData:
        index = torch.from_numpy(rows)
        own = {kind: values[index][:, None] for kind, values in features.items()}
        return ClientData(own, torch.from_numpy(labels[rows]))

    split = {client: np.flatnonzero(clients == client) for client in np.unique(clients).tolist()}
    dataset = ImageDataset(
        "data in memory",
        tuple(class_names),
        labels,
        np.zeros(len(labels), dtype=np.bool_),
        lambda _: None,  # all of it is encoded already
        "",
    )
    return Federation(
        dataset,
        {
            ClientId(client): Client(part(rows), part(nothing), ClientSplit(rows, nothing), None)
            for client, rows in split.items()
        },
    )
