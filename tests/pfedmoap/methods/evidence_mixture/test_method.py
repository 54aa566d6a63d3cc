"""The evidence mixture: what it sends, what it classifies with, and what experts are good for."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from eval.contract.federation import SmallFederation
from pfedmoap.contract.privacy_analysis import gap_in_analysis
from pfedmoap.contract.tasks import ClientData
from pfedmoap.errors import ConfigError, PrivacyError
from pfedmoap.methods.evidence_mixture.method import EvidenceMixture
from pfedmoap.methods.local_coop import LocalCoOp
from pfedmoap.wire.messages import ClientId
from privacy.options import DPSGD
from tests.helpers.small_federation import make_data

ME, OTHER = ClientId(0), ClientId(4)


def test_prompts_are_those_of_local_coop_bit_by_bit(small, setting):
    """Neither experts nor the head act on what is uploaded."""
    _, _, ours = small(EvidenceMixture(setting, experts=2)).rounds(3)
    _, alone, _ = small(LocalCoOp(setting)).rounds(3)
    for result in ours:
        uploaded = result.update.arrays
        assert set(uploaded) == {"context"}
        assert torch.equal(uploaded["context"], alone[result.update.client]["context"])


def test_clients_are_served_the_k_nearest_others_and_newcomers_the_mean(small, setting):
    method = EvidenceMixture(setting, experts=2)
    state, local_states, results = small(method).rounds(1, [ME, ClientId(1), OTHER])
    prompts = {r.update.client: r.update.arrays["context"] for r in results}
    newcomer, mine = method.plan(state, [ClientId(7), ME], 2)[::-1]
    assert set(newcomer.arrays) == {"context"}
    assert torch.equal(newcomer.arrays["context"], state["context"])
    others = sorted({ClientId(1), OTHER}, key=lambda c: float((prompts[c] - prompts[ME]).norm()))
    assert mine.arrays["expert_clients"].tolist() == others
    assert torch.equal(mine.arrays["experts"], torch.stack([prompts[c] for c in others]))
    assert "experts" not in local_states[ME]  # of its first round


def test_random_experts_differ_by_round_and_not_by_call(small, setting):
    method = EvidenceMixture(setting, experts=1, selection="random")
    state, _, _ = small(method).rounds(1)

    def owners(round):
        return [d.arrays["expert_clients"].item() for d in method.plan(state, [ME, OTHER], round)]

    assert owners(2) == owners(2)
    assert len({tuple(owners(round)) for round in range(2, 12)}) > 1
    assert all(owners(round)[0] != ME and owners(round)[1] != OTHER for round in range(2, 12))


def test_a_client_classifies_with_mixture_prior_and_head(small, setting):
    world = small(EvidenceMixture(setting, experts=2))
    state, local_states, _ = world.rounds(3)
    found = world.predict(state, local_states)[OTHER]
    kept, image = local_states[OTHER], world.data[OTHER].view()["image"]
    encoder = setting.backbone.prompt_encoder(setting.class_names, 16)
    text = encoder(torch.cat([kept["context"][None], kept["experts"]]))
    known = (setting.backbone.logit_scale * image @ text.mT).softmax(-1)  # (3, B, C)
    weights = kept["expert_weights"]
    assert weights[0].item() == pytest.approx(1 / 3)  # the own prompt's even share
    assert weights.sum().item() == pytest.approx(1)
    mixture = torch.einsum("e,ebc->bc", weights, known).log()
    logits = mixture + kept["class_prior"] + image @ kept["residual_head"].T
    assert torch.allclose(found.logits, logits, atol=1e-5)
    assert found.experts == tuple(kept["expert_clients"].tolist())
    assert torch.allclose(found.attention, weights.expand(*logits.shape, -1))


def test_without_head_prior_and_experts_it_is_local_coop(small, setting):
    bare = EvidenceMixture(setting, experts=0, head_spread=0.0, pseudo_count=1e9)
    mine, alone = small(bare), small(LocalCoOp(setting))
    ours = mine.predict(*mine.rounds(2)[:2])
    theirs = alone.predict(*alone.rounds(2)[:2])
    for client, found in ours.items():
        expected = theirs[client].logits.softmax(-1)
        assert torch.allclose(found.logits.softmax(-1), expected, atol=1e-5)
        assert found.attention is not None
        assert bool((found.attention == 1).all())


def federation_of_two_groups(setting, images=6):
    """Six clients in two groups that call the same pictures by contradicting names."""
    stream = torch.Generator().manual_seed(8)
    centres = F.normalize(torch.randn(3, setting.backbone.embed_dim, generator=stream), dim=-1)

    def draw(count, shift):
        labels = torch.arange(count) % 3
        noise = torch.randn(count, 1, centres.shape[1], generator=stream) * 0.5 / 8
        image = F.normalize(centres[labels][:, None] + noise, dim=-1)
        return ClientData({"image": image}, (labels + shift) % 3)

    train = {ClientId(i): draw(images, i % 2) for i in range(6)}
    return train, {ClientId(i): draw(60, i % 2) for i in range(6)}


def test_experts_of_the_own_group_get_the_weight_and_it_pays(setting):
    """Random neighbours are of either group; the images tell which, and even weights do not."""
    training = replace(setting.training, epochs=8, learning_rate=0.5, batch_size=6)
    train, test = federation_of_two_groups(setting)

    def run(**options):
        method = EvidenceMixture(
            replace(setting, training=training), experts=5, head_spread=0.0, **options
        )
        world = SmallFederation(method, train)
        state, local_states, _ = world.rounds(5)
        right = [
            method.predict(d, local_states[d.client], test[d.client].view()).logits.argmax(-1)
            == test[d.client].labels
            for d in method.plan(state, world.clients, 6)
        ]
        return local_states, float(torch.cat(right).float().mean())

    local_states, weighed = run(own_weight=0.0)
    for client, kept in local_states.items():
        same = kept["expert_clients"] % 2 == client % 2
        assert float(kept["expert_weights"][1:][same].sum()) > 0.9
    _, evenly = run(own_weight=0.0, sharpness=0.0)
    assert weighed > evenly + 0.1  # 0.67 against 0.48


def test_a_client_without_images_is_served_and_predicts(setting):
    empty = make_data(OTHER, 0, setting.backbone.embed_dim)
    data = {ME: make_data(ME, 4, setting.backbone.embed_dim), OTHER: empty}
    world = SmallFederation(EvidenceMixture(setting), data)
    state, local_states, _ = world.rounds(2)
    kept = local_states[OTHER]
    assert not kept["residual_head"].any()
    assert torch.allclose(kept["class_prior"].exp(), torch.full((3,), 1 / 3))
    download = world.method.plan(state, [OTHER], 3)[0]
    found = world.method.predict(download, kept, data[ME].view())
    assert bool(torch.isfinite(found.logits).all())


def test_privacy_covers_the_prompt_and_what_is_fitted_at_home_stays_there(setting):
    method = EvidenceMixture(setting)
    assert gap_in_analysis(method, "decoupled") is None
    assert gap_in_analysis(method, "release") is None
    with pytest.raises(PrivacyError, match=r"fitted without noise.*Use mode decoupled"):
        DPSGD(mode="joint").privatizer(method, None, None)
    assert "release" in (gap_in_analysis(method, "central") or "")


def test_it_says_that_its_models_know_their_classes_only(setting):
    assert "classes" in EvidenceMixture(setting).class_bond()


def test_nonsense_options_are_refused(setting):
    for option in ("sharpness", "head_spread", "own_weight"):
        with pytest.raises(ConfigError, match=f"method.{option}"):
            EvidenceMixture(setting, **{option: -1.0})
    with pytest.raises(ConfigError, match=r"method.pseudo_count"):
        EvidenceMixture(setting, pseudo_count=0.0)


def test_who_has_left_is_in_no_mixture_and_the_other_weights_sum_to_one(small, setting):
    method = EvidenceMixture(setting, experts=3)
    world = small(method)
    state, local_states, _ = world.rounds(2)
    before = local_states[ME]
    gone = ClientId(int(before["expert_clients"][1]))
    after = method.forget_local(before, gone)
    assert gone not in after["expert_clients"].tolist()
    assert len(after["experts"]) == 2
    kept = before["expert_weights"][[0, 1, 3]]
    assert torch.allclose(after["expert_weights"], kept / kept.sum())
    assert method.forget_local(after, gone) is after
    left = method.forget(state, gone)
    assert gone not in left["pool.clients"].tolist()
    others = {client: method.forget_local(own, gone) for client, own in local_states.items()}
    assert (
        world.predict(left, {c: own for c, own in others.items() if c != gone})[ME].attention.shape[
            -1
        ]
        == 3
    )
