"""From a data set to federated clients: few-shot draw, partition, cached features."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfedmoap.config.bounds import Bounds, Count
from pfedmoap.config.sampling import Sampling, Seeds
from pfedmoap.contract.tasks import ClientData
from pfedmoap.data.dataset import ImageDataset, IntArray, chosen_images
from pfedmoap.data.feature_store import cache_folder
from pfedmoap.data.features import cached_features
from pfedmoap.data.few_shot import draw_images
from pfedmoap.data.persons import report_shared, together
from pfedmoap.data.questions.encoding import check_modality, question_features
from pfedmoap.data.splits import ClientSplit, Partition, refuse_idle
from pfedmoap.data.validation import hold_out
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.language.model import FrozenLM
from pfedmoap.wire.messages import ClientId


@dataclass(frozen=True)
class Features:
    """How image features are computed and kept.

    Attributes:
        views: Augmented views (random resized crop and flip) of each training image; 0 trains on
            the fixed centre view. Epochs rotate through them.
        cache: Folder of the feature cache. Features are encoded images: what is stored is for its
            owner alone (folders 0700, files 0600). Several runs may use it at once, and deleting
            it loses nothing but time.
        batch_size: Images encoded at once; on a GPU, as many times more as it has memory for.
    """

    views: Annotated[int, Bounds(ge=0, le=1000)] = 0
    cache: str = "~/.cache/pfedmoap"
    batch_size: Count = 64


@dataclass(frozen=True)
class Client:
    """One client's data.

    Attributes:
        train: Its training examples.
        test: Its test examples, one centre view each; with ``sampling.validation`` those held out.
        split: The same as indices into the data set.
        domain: Name of the domain that most of its images come from, if there are domains.
    """

    train: ClientData
    test: ClientData
    split: ClientSplit
    domain: str | None


@dataclass(frozen=True)
class Federation:
    """All clients and what they have in common.

    Attributes:
        dataset: Where the images come from.
        clients: By id, counted from 0.
        server: Examples that the server holds; ``None`` where it holds none.
        server_images: The same as indices into the data set.
    """

    dataset: ImageDataset
    clients: Mapping[ClientId, Client]
    server: ClientData | None = None
    server_images: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def training_data(self) -> dict[ClientId, ClientData]:
        """Training data by client."""
        return {client: own.train for client, own in self.clients.items()}

    @property
    def groups(self) -> dict[ClientId, Tensor] | None:
        """The person of each training example, (n,) by client; private.

        ``None`` where the data do not say.
        """
        splits = [self.clients[client].split for client in sorted(self.clients)]
        return owners_of(self.dataset, splits)

    def describe(self) -> dict[str, object]:
        """All that inference and reports need to know of the data, as JSON."""
        classes = len(self.dataset.class_names)

        def histogram(data: ClientData) -> list[int]:
            return torch.bincount(data.labels, minlength=classes).tolist()

        server = {} if self.server is None else {"server": histogram(self.server)}
        return server | {
            "data": self.dataset.name,
            "class_names": list(self.dataset.class_names),
            "templates": list(self.dataset.templates),
            "domains": list(self.dataset.domain_names),
            "unreadable": list(self.dataset.unreadable),
            "clients": [
                {
                    "client": client,
                    "domain": own.domain,
                    "train": histogram(own.train),
                    "test": histogram(own.test),
                }
                for client, own in self.clients.items()
            ],
        }


@dataclass(frozen=True)
class _Encoded:
    """Features of some of a data set's images.

    Attributes:
        dataset: The data set.
        indices: Which images, sorted, (m,).
        features: By kind, (m, V, ...).
    """

    dataset: ImageDataset
    indices: IntArray
    features: Mapping[str, NDArray[Any]]

    def of(self, images: IntArray) -> ClientData:
        """Features and labels of some of these images."""
        rows = np.searchsorted(self.indices, images)
        return ClientData(
            {
                kind: torch.from_numpy(np.array(array[rows]))
                for kind, array in self.features.items()
            },
            torch.from_numpy(self.dataset.labels[images].astype(np.int64)),
        )


def build_federation(
    dataset: ImageDataset,
    partition: Partition,
    backbone: FrozenCLIP | FrozenLM,
    kinds: Sequence[str],
    *,
    sampling: Sampling,
    seeds: Seeds,
    features: Features,
    idle_clients: bool = False,
    progress: bool = True,
    check: Callable[[Sequence[ClientSplit]], None] = lambda _: None,
) -> Federation:
    """Share a data set out over clients and encode every image that is used, once.

    Training images that are no client's are never encoded: 16 shots of Food-101 are 2% of them.

    Args:
        dataset: The data set.
        partition: How images are shared out.
        backbone: What encodes them.
        kinds: Kinds of features that the method needs.
        sampling: Which training images are used.
        seeds: Seeds of the partition and of the few shots.
        features: How features are computed and kept.
        idle_clients: Whether clients may be without training images; see `refuse_idle`.
        progress: Show a progress bar while images are encoded.
        check: Called with the split before an image is encoded; may refuse it.

    Returns:
        The clients with their data, and the server with its own.

    Raises:
        PartitionError: The data cannot be split in this way.
        BackboneError: The backbone lacks a kind of feature, or cannot read such data.
    """
    check_modality(dataset, backbone)
    shared = dataset.shared_out
    splits, kept = share_out(dataset, partition, sampling, seeds)
    if not idle_clients:
        refuse_idle(shared, splits)
    tested = np.flatnonzero(dataset.is_test)
    if share := sampling.validation:
        splits = hold_out(
            dataset.shared_out, splits, share, seeds.partition, named=not idle_clients
        )
        tested = np.sort(np.concatenate([split.test for split in splits]))
    check(splits)
    used = np.sort(np.concatenate([kept, *(split.train for split in splits)]))

    def encode(indices: IntArray, views: int) -> _Encoded:
        chosen = chosen_images(dataset, indices)
        if isinstance(backbone, FrozenLM):
            return _Encoded(dataset, indices, question_features(chosen, backbone, kinds, views))
        table = cached_features(
            chosen,
            backbone,
            cache_folder(features.cache),
            kinds=tuple(kinds),
            views=views,
            batch_size=features.batch_size,
            progress=progress,
        )
        return _Encoded(dataset, indices, {kind: table.train_views(kind) for kind in kinds})

    train, test = encode(used, features.views), encode(tested, 0)
    clients = {
        ClientId(i): Client(
            train=train.of(split.train),
            test=test.of(split.test),
            split=split,
            domain=_main_domain(dataset, split.train if len(split.train) else split.test),
        )
        for i, split in enumerate(splits)
    }
    return Federation(dataset, clients, train.of(kept) if len(kept) else None, kept)


def share_out(
    dataset: ImageDataset, partition: Partition, sampling: Sampling, seeds: Seeds
) -> tuple[Sequence[ClientSplit], IntArray]:
    """Draw the images that are used and share them out; no image is read for it.

    Args:
        dataset: The data set.
        partition: How images are shared out.
        sampling: Which training images are used.
        seeds: Seeds of the partition and of the few shots.

    Returns:
        Each client's images, and those that the server keeps.

    Raises:
        PartitionError: The data cannot be split in this way.
    """
    shared = dataset.shared_out
    shots, kept = draw_images(shared, sampling.shots, sampling.server_shots, seeds.few_shot)
    splits = partition.split(shared, shots, seeds.partition)
    if dataset.groups is not None:
        splits = together(shared, splits) if sampling.groups == "together" else splits
        report_shared(shared, splits)
    return splits, kept


def owners_of(
    dataset: ImageDataset, splits: Sequence[ClientSplit]
) -> dict[ClientId, Tensor] | None:
    """Whose image each client's training examples are, (n,) by client; private.

    Args:
        dataset: The data set.
        splits: The clients' images, in the order of their ids from 0.

    Returns:
        Numbers of persons, or ``None`` where the data do not say.
    """
    owners = dataset.groups
    if owners is None:
        return None
    return {
        ClientId(i): torch.from_numpy(owners[split.train].astype(np.int64))
        for i, split in enumerate(splits)
    }


def _main_domain(dataset: ImageDataset, index: IntArray) -> str | None:
    if dataset.domains is None:
        return None
    counts = np.bincount(dataset.domains[index], minlength=len(dataset.domain_names))
    return dataset.domain_names[int(counts.argmax())]
