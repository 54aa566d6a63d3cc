"""Private rounds on the architectures that CLIPs have give back all the memory that they take."""

import gc

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy, PlannedTraining
from pfedmoap.contract.privacy_analysis import gap_in_analysis
from pfedmoap.contract.tasks import Setting
from pfedmoap.engine.round import run_round
from pfedmoap.methods.registry import method_class
from pfedmoap.prompts.tuning import PromptProblem
from pfedmoap.wire.messages import ClientId
from pfedmoap.wire.transport import InProcess
from privacy.mechanisms.per_example import per_example_gradients
from privacy.options import DPSGD, Release
from tests.helpers.models import tiny_clip
from tests.helpers.small_federation import make_data
from tests.helpers.training_steps import CLASSES, ENCODERS, JOINT, last_steps

PLAN = PlannedTraining(rounds=3, epochs=1, batch_size=2)
SIZES = {ClientId(0): 2, ClientId(3): 3}
FORMS = {**JOINT, "fed_bbpt": {}}
MODES = {
    "none": NoPrivacy(),
    "joint": DPSGD(mode="joint", sample_rate=0.5),
    "decoupled": DPSGD(mode="decoupled", sample_rate=0.5),
    "release": Release(),
}
# Rounds work on features, so that a ResNet differs only in what its features look like.
CASES = [("vit", form) for form in sorted(FORMS)] + [("resnet", "promptfl"), ("resnet", "pfedmoap")]


@pytest.fixture(autouse=True)
def _quick_collector():
    """Spare the collector all that was there before; it runs many times here."""
    gc.freeze()
    yield
    gc.unfreeze()


def kept_bytes(call):
    """Bytes of tensors that a call allocates and does not free, as torch's allocator counts them.

    Python's collector does not see what C++ holds, and a process' size is not exact; this is.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
        gc.collect()
    events = profiled.profiler.kineto_results.events()
    return sum(event.nbytes() for event in events if event.name() == "[memory]")


def test_what_is_kept_is_counted():
    kept = []
    assert kept_bytes(lambda: torch.ones(1000) + 1) == 0
    assert kept_bytes(lambda: kept.append(torch.ones(1000))) == 4000


@pytest.mark.parametrize(("tower", "form"), CASES)
def test_a_round_of_any_mode_keeps_no_memory(tower, form):
    clip = tiny_clip(tower)
    training = Training(epochs=1, batch_size=2, learning_rate=0.02)
    server = make_data(ClientId(99), 4, clip.embed_dim)
    setting = Setting(clip, CLASSES, training, seed=11, server_data=server)
    data = {client: make_data(client, size, clip.embed_dim) for client, size in SIZES.items()}
    method = method_class(form.split(",")[0])(setting, **FORMS[form])
    allowed = [mode for mode in MODES if mode == "none" or gap_in_analysis(method, mode) is None]
    assert len(allowed) > 1
    for mode in allowed:
        privatizer = MODES[mode].privatizer(method, PLAN, None)
        run = {"state": method.init(), "local_states": {}}

        def play(round, run=run, privatizer=privatizer):
            result = run_round(
                method,
                run["state"],
                sorted(data),
                round,
                data,
                run["local_states"],
                InProcess(),
                privatizer,
            )
            run.update(
                state=result.state, local_states={**run["local_states"], **result.local_states}
            )

        # States take shape in the first rounds, and pools fill.
        kept = [kept_bytes(lambda: play(round)) for round in (1, 2, 3)]  # noqa: B023  # at once
        assert kept[-1] <= 0, (mode, kept)


@pytest.mark.parametrize("kind", ENCODERS)
def test_per_example_gradients_keep_no_memory_with_any_encoder(kind, setting, data):
    problem, params, batch = last_steps(method_class("promptfl")(setting), data)[0]
    length = params["context"].shape[1]
    encoder = setting.backbone.prompt_encoder(setting.class_names, length, **ENCODERS[kind])
    problem = PromptProblem(encoder, problem.scale)
    for memory_bytes in (2**30, 1):
        chunks = per_example_gradients(problem, params, batch, memory_bytes)
        assert kept_bytes(lambda: [None for _ in chunks]) == 0  # noqa: B023  # at once
