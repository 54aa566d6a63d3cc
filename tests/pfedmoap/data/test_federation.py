"""From images to clients: each gets its own features, and only used images are encoded."""

import numpy as np
import pytest
import torch

from pfedmoap.config.sampling import Sampling, Seeds
from pfedmoap.data.digits import Digits
from pfedmoap.data.dirichlet import Dirichlet
from pfedmoap.data.federation import Features, build_federation
from pfedmoap.data.partition import IID
from pfedmoap.errors import PartitionError


@pytest.fixture
def encoded(clip, monkeypatch):
    """Counts the images that go through the image tower."""
    counts = []
    whole = type(clip).features

    def features(self, images, kinds=("image",)):
        counts.append(len(images))
        return whole(self, images, kinds)

    monkeypatch.setattr(type(clip), "features", features)
    return counts


@pytest.mark.parametrize("views", [0, 3])
def test_unused_training_images_are_never_encoded(clip, encoded, tmp_path, views) -> None:
    dataset = Digits().read()
    tested = int(dataset.is_test.sum())

    def build(seed):
        return build_federation(
            dataset,
            Dirichlet(4, 1.0),
            clip,
            ("image",),
            sampling=Sampling(shots=8),
            seeds=Seeds(few_shot=seed),
            features=Features(views=views, cache=str(tmp_path)),
            progress=False,
        )

    build(0)
    assert sum(encoded) == tested + 80 * (1 + views)
    encoded.clear()
    build(0)
    assert sum(encoded) == 0
    build(1)
    assert sum(encoded) == 80 * (1 + views)  # the test images are there already


def test_every_client_has_the_features_of_its_own_images(clip, tmp_path) -> None:
    dataset = Digits().read()
    federation = build_federation(
        dataset,
        Dirichlet(4, 1.0),
        clip,
        ("image",),
        sampling=Sampling(shots=4),
        seeds=Seeds(),
        features=Features(cache=str(tmp_path)),
        progress=False,
    )
    for client in federation.clients.values():
        for data, index in ((client.train, client.split.train), (client.test, client.split.test)):
            some = index[[0, -1]]
            images = torch.stack([clip.preprocessing.centre(dataset.load(int(i))) for i in some])
            expected = clip.image_features(images)
            torch.testing.assert_close(data.features["image"][[0, -1], 0], expected)
            assert np.array_equal(data.labels.numpy(), dataset.labels[index])


def test_a_client_may_be_without_training_images_only_where_numbers_are_secret(clip, tmp_path):
    def build(idle_clients):
        return build_federation(
            Digits().read(),
            IID(12),
            clip,
            ("image",),
            sampling=Sampling(shots=1),
            seeds=Seeds(),
            features=Features(cache=str(tmp_path)),
            idle_clients=idle_clients,
            progress=False,
        )

    with pytest.raises(PartitionError, match="2 of 12 clients get no train image"):
        build(False)
    sizes = sorted(len(client.train) for client in build(True).clients.values())
    assert sizes == [0, 0] + [1] * 10
    assert all(client.train.features["image"].dim() == 3 for client in build(True).clients.values())
