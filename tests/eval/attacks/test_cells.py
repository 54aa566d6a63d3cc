"""A federation with hostile clients: honest ones are untouched, and what happened is measured."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from eval.attacks.attack import Attack
from eval.attacks.cells import AttackLab, draw_attackers
from eval.attacks.compromised import CompromisedClients
from eval.attacks.outcome import Outcome
from eval.attacks.reported import Reported
from eval.attacks.spec import plan_of
from eval.attacks.trigger import COLOUR, stamp
from eval.experiment import ExperimentLoader
from pfedmoap.wire.messages import ClientId, Download, Update
from pfedmoap.wire.transport import InProcess
from tests.helpers.attacks import SMALL

WANTED = {
    *(
        ("PromptFL", *key)
        for key in (("none", 0.0), ("nan", 0.25), ("nan", 0.5), ("sign_flip", 0.5))
    ),
    *(("pFedMoAP", *key) for key in (("none", 0.0), ("sybil", 0.5))),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> dict[str, str]:
    return {"cache": str(tmp_path_factory.mktemp("cache"))}


def run(changes, wanted, methods=SMALL["methods"]) -> dict[tuple[str, str, float], Outcome]:
    plan = plan_of(SMALL | {"base": SMALL["base"] | changes, "methods": methods})
    lab = AttackLab(plan.target, ExperimentLoader(progress=False))
    return {
        (case.method, case.attack, case.share): lab.run(case)
        for case in plan.cases()
        if case.defence == "none" and (case.method, case.attack, case.share) in wanted
    }


@pytest.fixture(scope="module")
def outcomes(cache) -> dict[tuple[str, str, float], Outcome]:
    return run({"features": cache}, WANTED)


def test_without_attackers_nobody_is_hostile_and_everybody_is_measured(outcomes):
    calm = outcomes["PromptFL", "none", 0.0]
    assert calm.attackers == frozenset()
    assert set(calm.accuracy) == {0, 1, 2, 3}
    assert calm.reported == Reported(0, 0, 0)
    assert outcomes["pFedMoAP", "none", 0.0].served == 0.0
    assert calm.served is None


def test_nan_is_refused_and_reported_in_every_round(outcomes):
    for share, count in ((0.25, 1), (0.5, 2)):
        refused = outcomes["PromptFL", "nan", share]
        assert len(refused.attackers) == count
        assert refused.reported == Reported(hostile=2 * count, caught=2 * count, accused=0)
        assert (refused.reported.precision, refused.reported.recall) == (1.0, 1.0)
        assert not set(refused.accuracy) & refused.attackers


def test_a_sign_flip_costs_accuracy_where_nothing_is_done_about_it(outcomes):
    calm, hit = (outcomes["PromptFL", *key] for key in (("none", 0.0), ("sign_flip", 0.5)))
    lost = np.mean([calm.accuracy[client] - value for client, value in hit.accuracy.items()])
    assert lost > 0.2
    assert hit.shared is not None
    assert hit.shared < calm.shared - 0.2


def test_a_backdoor_turns_triggered_images_into_the_target(cache, outcomes):
    assert outcomes["PromptFL", "none", 0.0].fooled < 0.05
    longer = {"epochs": 8, "batch_size": 32, "learning_rate": 0.1}
    words = {"name": "promptfl", "context_length": 3, "context_init": "a photo of"}
    key = ("PromptFL", "backdoor", 0.5)
    changes = {"features": cache, "training": longer}
    assert run(changes, {key}, {"PromptFL": {"method": words}})[key].fooled > 0.5


def test_victims_that_were_served_are_counted(outcomes):
    """Two experts of three others in a federation that is half hostile: nobody is spared."""
    assert outcomes["pFedMoAP", "sybil", 0.5].served == 1.0


def test_an_outcome_survives_its_file(outcomes):
    for outcome in outcomes.values():
        assert Outcome.from_json(outcome.to_json()) == outcome


def test_more_attackers_hold_fewer_ones():
    clients = [ClientId(i) for i in range(10)]
    drawn = [draw_attackers(clients, share, seed=3) for share in (0.0, 0.04, 0.1, 0.2, 0.4)]
    assert [len(each) for each in drawn] == [0, 1, 1, 2, 4]
    assert all(few <= many for few, many in pairwise(drawn))
    assert drawn[-1] != draw_attackers(clients, 0.4, seed=4)


def test_the_wire_forges_hostile_uploads_alone_and_under_their_own_name():
    seen = []

    def forge(update, sight):
        seen.append(sight)
        return Update(99, ClientId(99), {"context": torch.ones(2, 2)}, 5)

    hostile = {ClientId(1), ClientId(2)}
    wire = CompromisedClients(InProcess(), Attack("test", forge=forge), hostile, 3, seed=0)
    for client in range(3):
        arrays = {"context": torch.full((2, 2), float(client))}
        wire.down(Download(6, ClientId(client), arrays, served=(ClientId(0),)))
    found = [
        wire.up(Update(6, ClientId(client), {"context": torch.zeros(2, 2)}, 9))
        for client in range(3)
    ]
    assert [(update.round, update.client) for update in found] == [(6, 0), (6, 1), (6, 2)]
    assert [float(update.arrays["context"].sum()) for update in found] == [0.0, 4.0, 4.0]
    assert [update.num_examples for update in found] == [9, 5, 5]
    assert [sight.sent.client for sight in seen] == [1, 2]
    assert [[one.client for one in sight.shared] for sight in seen] == [[1, 2], [1, 2]]
    assert all(one.served is None for sight in seen for one in sight.shared)  # the server's own log
    assert [traffic.client for traffic in wire.collect()] == [0, 1, 2]


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (40, 20)])
def test_the_trigger_is_a_frame_that_leaves_the_middle(size):
    image = Image.new("L", size, 7)
    pixels = np.asarray(stamp(image))
    assert pixels.shape == (*size[::-1], 3)
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == COLOUR).all()
    if min(size) > 2:
        width = max(1, round(0.1 * min(size)))
        assert (pixels[width:-width, width:-width] == 7).all()
    assert image.getpixel((0, 0)) == 7
