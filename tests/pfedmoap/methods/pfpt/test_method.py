"""PFPT: what is used, what travels, what the pool becomes; known pitfalls by name."""

from dataclasses import replace

import pytest
import torch

from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.tasks import ClientData, ClientTask, Setting
from pfedmoap.data.digits import Digits
from pfedmoap.engine.round import run_round
from pfedmoap.errors import BackboneError, ConfigError
from pfedmoap.methods.fedavg_pt import FedAvgPT
from pfedmoap.methods.pfpt.method import PFPT, USED
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.logits import cross_entropy
from pfedmoap.prompts.set_elements import PROMPTS
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import ClientId, Update
from pfedmoap.wire.transport import InProcess
from tests.helpers.models import tiny_clip

WIDTH = 32  # of the tiny tower's tokens


def shuffled(update: Update) -> Update:
    """The same set in another order, as a client with its own bookkeeping might send it."""
    stream = torch.Generator().manual_seed(100 + update.client)
    order = torch.randperm(len(update.arrays[PROMPTS]), generator=stream)
    rows = {n: v[order] for n, v in update.arrays.items() if n in (PROMPTS, USED)}
    return replace(update, arrays={**update.arrays, **rows})


def test_used_prompts_are_those_that_training_moved(setting, small):
    method = PFPT(setting, prompts=12, chosen=2)
    state, _, results = small(method).rounds(1)
    before = method.init()[PROMPTS]
    union = torch.zeros(12, dtype=torch.bool)
    for result in results:
        arrays = result.update.arrays
        moved = (arrays[PROMPTS] != before).flatten(1).any(1)
        assert torch.equal(arrays[USED], moved)
        assert 2 <= int(moved.sum()) < 12
        union |= moved
    assert len(state[PROMPTS]) == int(union.sum())


def test_predicting_marks_no_prompt_as_used(setting, small):
    """Pitfall: the released code counts prompts that its evaluation on the test set chose."""
    method = PFPT(setting, prompts=12, chosen=2)
    world = small(method)
    state = method.init()
    tasks = world.tasks(state, list(world.data), 1, {})
    plain = method.train(tasks, NoPrivacy())
    for data in world.data.values():
        method.predict_global(state, data.view())
    again = method.train(tasks, NoPrivacy())
    for one, two in zip(plain, again, strict=True):
        assert torch.equal(one.update.arrays[USED], two.update.arrays[USED])


def test_what_nobody_used_is_dropped_and_the_pool_never_starves(setting, small):
    """Pitfall: a pool of fewer than k prompts fails top-k. Its size is a curve to look at."""
    method = PFPT(setting, prompts=20, chosen=4)
    world = small(method)
    sizes = []
    state, local_states = method.init(), {}
    for round in range(1, 5):
        sizes.append(len(state[PROMPTS]))
        state, local_states, _ = world.round(state, local_states, list(world.data), round)
    assert sizes[0] == 20
    assert sizes == sorted(sizes, reverse=True)
    assert 4 <= sizes[-1] < 20


def test_sets_of_different_sizes_are_merged(setting, small):
    """Pitfall: stacking breaks where each client sends only what it used."""
    method = PFPT(setting, prompts=12, chosen=2, upload="own")
    state, _, results = small(method).rounds(1)
    sizes = {len(result.update.arrays[PROMPTS]) for result in results}
    assert len(sizes) > 1
    assert max(sizes) <= len(state[PROMPTS]) <= 12


def test_untouched_copies_do_not_multiply(setting, small):
    """Pitfall: clients send back what they never touched, exactly as it was."""
    method = PFPT(setting, prompts=12, chosen=2, upload="all")
    state, _, _ = small(method).rounds(2)
    assert len(state[PROMPTS]) == 12


def test_the_pool_does_not_outgrow_its_bound(setting, small):
    method = PFPT(setting, prompts=4, chosen=4, most_prompts=5)
    state = method.init()
    updates = [
        Update(1, ClientId(i), {PROMPTS: torch.randn(4, WIDTH), USED: torch.ones(4).bool()}, 5)
        for i in range(3)
    ]
    assert len(method.aggregate(state, updates)[PROMPTS]) == 5


def test_head_and_projection_are_averaged_by_training_set_size(setting, small):
    """Pitfall: the paper speaks of personal heads; its global metric needs their average."""
    method = PFPT(setting, prompts=6, chosen=2, head="trained", projection=True)
    state, _, results = small(method).rounds(1)
    sizes = torch.tensor([result.update.num_examples for result in results], dtype=torch.float64)
    for name in ("projection", "head_hidden", "head_output_bias"):
        stacked = torch.stack([result.update.arrays[name].double() for result in results])
        expected = torch.tensordot(sizes / sizes.sum(), stacked, 1)
        assert torch.allclose(state[name].double(), expected, atol=1e-6)
        assert not torch.equal(state[name], method.init()[name])


@pytest.mark.parametrize("upload", ["union", "own", "all"])
def test_bytes_are_those_of_the_formula(setting, data, upload):
    method = PFPT(setting, prompts=12, chosen=2, upload=upload)
    state, local_states = method.init(), {}
    for round in (1, 2):
        pool = len(state[PROMPTS])
        result = run_round(
            method, state, sorted(data), round, data, local_states, InProcess(), NoPrivacy()
        )
        assert not result.rejected
        state = result.state
        for traffic in result.traffic:
            assert traffic.down_bytes == {PROMPTS: 4 * pool * WIDTH}
            if upload == "own":
                rows = traffic.up_bytes[PROMPTS] // (4 * WIDTH)
                assert traffic.up_bytes == {PROMPTS: 4 * rows * WIDTH}
                assert 2 <= rows < pool or round == 2
            else:
                flags = {USED: pool} if upload == "union" else {}
                assert traffic.up_bytes == {PROMPTS: 4 * pool * WIDTH, **flags}


def test_bytes_of_the_papers_head_are_counted_under_their_own_names(setting, data):
    """4 bytes times W^2 + 512 D + 512 + 512 C + C beside the prompts, in both directions."""
    method = PFPT(setting, prompts=6, chosen=2, head="trained", projection=True, upload="all")
    result = run_round(method, method.init(), sorted(data), 1, data, {}, InProcess(), NoPrivacy())
    classes, dim = 3, 128
    expected = {
        PROMPTS: 4 * 6 * WIDTH,
        "projection": 4 * WIDTH**2,
        "head_hidden": 4 * 512 * dim,
        "head_hidden_bias": 4 * 512,
        "head_output": 4 * 512 * classes,
        "head_output_bias": 4 * classes,
    }
    for traffic in result.traffic:
        assert traffic.up_bytes == traffic.down_bytes == expected


def test_training_goes_on_with_text_contexts_on_a_backbone_without_tokens(data):
    clip = tiny_clip("resnet")
    setting = Setting(clip, ("cat", "a small dog", "boat"), Training(1, 3, 0.02), seed=11)
    with pytest.raises(BackboneError, match="modality text"):
        PFPT(setting)
    method = PFPT(setting, modality="text", prompts=5, chosen=2, context_length=3)
    result = run_round(method, method.init(), sorted(data), 1, data, {}, InProcess(), NoPrivacy())
    assert not result.rejected
    assert result.state[PROMPTS].shape[1:] == (3, clip.text_width)
    assert result.traffic[0].down_bytes == {PROMPTS: 4 * 5 * 3 * clip.text_width}


def test_released_forms_are_options(setting, small):
    method = PFPT(
        setting,
        prompts=6,
        chosen=2,
        start="random",
        spread="deviation",
        usage="incumbent",
        objective="released",
        passes=2,
        patience=None,
        result="candidates",
        similarity_weight=-0.01,
    )
    state, _, _ = small(method).rounds(1)
    assert state[PROMPTS].isfinite().all()
    assert len(state[PROMPTS]) >= 2


def test_what_was_used_cannot_be_covered_by_noise_on_the_upload(setting):
    assert "which prompts" in (PFPT(setting).privacy_gap("release") or "")
    assert PFPT(setting, upload="all").privacy_gap("release") is None
    assert "vote" in (PFPT(setting).privacy_gap("joint") or "")
    assert PFPT(setting, selection="sample").privacy_gap("joint") is None


def test_impossible_sizes_are_refused(setting):
    for options in ({"chosen": 21}, {"chosen": 0}, {"most_prompts": 19}):
        with pytest.raises(ConfigError, match=r"1 <= chosen <= prompts|method\.chosen must be"):
            PFPT(setting, **options)
    with pytest.raises(ConfigError, match="passes"):
        PFPT(setting, passes=-1)


def digits_of_clients(clip: FrozenCLIP, clients: int, each: int) -> dict[ClientId, ClientData]:
    """Real digits, every client's with other classes more frequent."""
    digits = Digits().read()
    found = {}
    for client in range(clients):
        own = range(client * 2 * each, (client + 1) * 2 * each)
        images = sorted(own, key=lambda i: (int(digits.labels[i]) - 2 * client) % 10)[:each]
        pixels = torch.stack([clip.preprocessing.centre(digits.load(i)) for i in images])
        features = clip.features(pixels, ("tokens", "class_token"))
        labels = torch.tensor([int(digits.labels[i]) for i in images])
        found[ClientId(client)] = ClientData(
            {kind: value[:, None] for kind, value in features.items()}, labels
        )
    return found


def test_shuffled_orders_cost_pfpt_nothing_and_averaging_by_position_some_of_the_gain():
    """Clients' prompts come back in orders of their own, from real digits with skewed classes."""
    clip = FrozenCLIP.embedded()
    training = Training(epochs=3, batch_size=16, learning_rate=0.02)
    names = Digits().read().class_names
    setting = Setting(clip, names, training, ("a photo of {}.",), seed=1)
    data = digits_of_clients(clip, clients=4, each=10)
    everything = {
        kind: torch.cat([own.features[kind][:, 0] for own in data.values()])
        for kind in ("tokens", "class_token")
    }
    labels = torch.cat([own.labels for own in data.values()])

    def loss_after_rounds(method, disorder: bool) -> float:
        state = method.init()
        apart = generator(method.setting.seed, "initial prompt tokens")  # that must not be mixed up
        state[PROMPTS] = 0.3 * torch.randn(state[PROMPTS].shape, generator=apart)
        for round in (1, 2, 3):
            plan = method.plan(state, list(data), round)
            tasks = [ClientTask(download, None, data[download.client]) for download in plan]
            updates = [result.update for result in method.train(tasks, NoPrivacy())]
            state = method.aggregate(state, [shuffled(u) if disorder else u for u in updates])
        logits = method.predict_global(state, everything).logits
        return float(cross_entropy(logits, labels).mean())

    options = {"prompts": 6, "chosen": 6, "selection": "all"}
    merged = loss_after_rounds(PFPT(setting, upload="all", **options), disorder=True)
    averaged = loss_after_rounds(FedAvgPT(setting, **options), disorder=False)
    scrambled = loss_after_rounds(FedAvgPT(setting, **options), disorder=True)
    assert merged == pytest.approx(averaged, rel=0.01)
    assert scrambled > 1.03 * merged
