"""Each attack does what it says, with what a hostile client has and nothing else."""

import pytest
import torch

from eval.attacks.attack import PoisonSource, Sight
from eval.attacks.catalogue import ATTACKS, CLAIMED_EXAMPLES
from eval.attacks.sybil import NEARNESS, honest_prompts
from pfedmoap.contract.tasks import ClientData
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import ClientId, Download, Update

START = torch.full((2, 3), 0.5)
MOVE = torch.arange(6.0).view(2, 3) / 10
TRAINED = Update(4, ClientId(1), {"context": START + MOVE}, num_examples=20)
ATTACKERS = frozenset({ClientId(1), ClientId(7)})


def sent(client: int, **more) -> Download:
    return Download(4, ClientId(client), {"context": START, **more})


def sight(download: Download, *others: Download) -> Sight:
    stream = generator(0, "test")
    before = Download(3, download.client, {"context": START - 2})
    return Sight(download, before, (download, *others), ATTACKERS, clients=10, stream=stream)


def forged(name: str, download: Download | None = None, *others: Download) -> Update:
    return ATTACKS[name].forge(TRAINED, sight(download or sent(1), *others))


def experts(*owners: int) -> dict[str, torch.Tensor]:
    prompts = torch.stack([torch.full((2, 3), float(owner)) for owner in owners])
    return {"experts": prompts, "expert_clients": torch.tensor(owners)}


@pytest.mark.parametrize(
    ("name", "factor"),
    [("scale", 100), ("sign_flip", -10), ("opposed", -1), ("backdoor_boosted", 5)],
)
def test_a_change_is_multiplied(name, factor):
    torch.testing.assert_close(forged(name).arrays["context"], START + factor * MOVE)
    assert forged(name).num_examples == 20


def test_nan_and_claimed_examples():
    assert bool(forged("nan").arrays["context"].isnan().all())
    claimed = forged("many_examples")
    assert claimed.num_examples == CLAIMED_EXAMPLES == 10**9
    torch.testing.assert_close(claimed.arrays["context"], START + MOVE)


def test_a_random_prompt_has_the_norm_of_what_was_sent_and_is_drawn_anew():
    view = sight(sent(1))
    first, second = (ATTACKS["random"].forge(TRAINED, view).arrays["context"] for _ in range(2))
    assert float(first.norm()) == pytest.approx(float(START.norm()), rel=1e-5)
    assert not torch.equal(first, second)


def test_a_free_rider_uploads_the_expert_that_it_was_served_or_what_it_was_sent():
    served = forged("copy", sent(1, **experts(5, 3)))
    torch.testing.assert_close(served.arrays["context"], torch.full((2, 3), 5.0))
    torch.testing.assert_close(forged("copy").arrays["context"], START)
    none = sent(1, experts=torch.zeros(0, 2, 3), expert_clients=torch.zeros(0, dtype=torch.int64))
    torch.testing.assert_close(forged("copy", none).arrays["context"], START)


def test_sybils_share_what_they_see_and_stand_nearest_to_their_victim():
    mine, theirs = sent(1, **experts(5, 7)), sent(7, **experts(3, 8))
    assert set(honest_prompts(sight(mine, theirs))) == {3, 5, 8}  # 7 is one of them
    upload = forged("sybil", mine, theirs).arrays["context"]
    victim, nearest = torch.full((2, 3), 3.0), torch.full((2, 3), 5.0)
    expected = victim + 2  # the prompt that all start from has moved by 2
    gap = float((upload - expected).norm())
    assert gap == pytest.approx(NEARNESS * float((nearest - victim).norm()), rel=1e-5)
    torch.testing.assert_close((upload - expected) / gap, MOVE / MOVE.norm())


def test_a_sybil_that_was_served_nobody_uploads_what_it_trained():
    torch.testing.assert_close(forged("sybil").arrays["context"], START + MOVE)


def source(labels=(0, 2, 2, 1)) -> PoisonSource:
    n = len(labels)
    plain = {"image": torch.arange(float(n)).view(n, 1, 1)}
    marked = {"image": plain["image"] + 100}
    truth = torch.tensor(labels)
    return PoisonSource(ClientData(plain, truth), ClientData(marked, truth), classes=4, target=2)


def poisoned(name: str) -> tuple[list[float], list[int]]:
    data = ATTACKS[name].poison(source())
    return data.features["image"].flatten().tolist(), data.labels.tolist()


def test_labels_are_flipped():
    assert poisoned("label_flip") == ([0, 1, 2, 3], [3, 1, 1, 2])


def test_one_class_is_the_most_frequent_one():
    assert poisoned("one_class") == ([1, 2], [2, 2])


@pytest.mark.parametrize("name", ["backdoor", "backdoor_boosted"])
def test_a_backdoor_adds_triggered_images_of_other_classes_as_the_target(name):
    assert poisoned(name) == ([0, 1, 2, 3, 100, 103], [0, 2, 2, 1, 2, 2])


def test_the_other_attacks_train_on_honest_data_and_upload_what_they_trained():
    dirty = {"label_flip", "one_class", "backdoor", "backdoor_boosted", "sybil"}
    for name in set(ATTACKS) - dirty:
        assert poisoned(name) == ([0, 1, 2, 3], [0, 2, 2, 1]), name
    for name in ("label_flip", "one_class", "backdoor"):
        torch.testing.assert_close(forged(name).arrays["context"], START + MOVE)
