"""Every method's real training steps, caught on a small federation, for tests to look into."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest
import torch

from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import ClientData, Setting
from pfedmoap.engine.round import run_round
from pfedmoap.methods.registry import Methods, method_class
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.wire.messages import ClientId
from pfedmoap.wire.transport import InProcess
from tests.helpers.small_federation import make_data

torch.set_num_threads(1)  # tensors here are tiny; more threads only wait for each other

CLASSES = ("cat", "a small dog", "boat")
SIZES = {ClientId(0): 5, ClientId(1): 3, ClientId(4): 6}


@dataclass
class Recorder(NoPrivacy):
    """Trains without privacy and keeps every step's problem, parameters and batch."""

    decouples: bool = False
    steps: list = field(default_factory=list)

    @property
    def decoupled(self):
        return self.decouples

    def gradients(self, problem, params, batch):
        self.steps.append((problem, params, batch))
        return super().gradients(problem, params, batch)


@pytest.fixture
def setting(clip: FrozenCLIP) -> Setting:
    training = Training(epochs=1, batch_size=3, learning_rate=0.02)
    server = make_data(ClientId(99), 4, clip.embed_dim)
    return Setting(clip, CLASSES, training, seed=11, server_data=server)


@pytest.fixture
def data(clip: FrozenCLIP) -> dict[ClientId, ClientData]:
    """Clients of different sizes with ids that have gaps, and two views of each image."""
    return {client: make_data(client, size, clip.embed_dim) for client, size in SIZES.items()}


JOINT: dict[str, dict] = {
    **{
        name: {}
        for name in Methods().keys()
        - {"zero_shot", "evidence_mixture", "fed_bbpt", "fedrep", "pfpt"}
    },
    "fedsp": {"stages": "prompt", "distillation_steps": 2},
    "fedsp, joint stages": {"stages": "joint", "distillation_steps": 2},
    "fedsp, both towers": {"stages": "prompt", "prefixed": "both", "distillation_steps": 2},
    "pfedmoap, averaged gates": {"gate_sharing": "averaged"},
    "pfpt": {"selection": "sample"},
    "pfpt, text": {"selection": "sample", "modality": "text"},
    "fedavg_pt, text": {"modality": "text"},
}
"""Methods that mode joint covers, in the forms that it covers, by name."""

ENCODERS: dict[str, dict] = {
    "shared prefix": {},
    "shared prefix, recomputed": {"memory_bytes": 20_000},
    "plain": {"shared_prefix": False},
    "plain, recomputed": {"shared_prefix": False, "memory_bytes": 20_000},
}
"""Options of `prompt_encoder`: each way to encode prompts, by name."""


@pytest.fixture(params=sorted(JOINT))
def joint_method(request, setting) -> AnyMethod:
    name = request.param
    return method_class(name.split(",")[0])(setting, **JOINT[name])


def run_rounds(method: AnyMethod, data: Mapping[ClientId, ClientData], privatizer, rounds: int):
    """Run rounds with all clients; returns the last state, all local states and all results."""
    state, local_states, results = method.init(), {}, []
    for round in range(1, rounds + 1):
        result = run_round(
            method, state, sorted(data), round, data, local_states, InProcess(), privatizer
        )
        state, local_states = result.state, {**local_states, **result.local_states}
        results.append(result)
    return state, local_states, results


def last_steps(method: AnyMethod, data: Mapping[ClientId, ClientData], decouples: bool = False):
    """One training step of each problem and set of parameters in a method's second round."""
    recorder = Recorder(decouples)
    run_rounds(method, data, recorder, 2)
    kinds = {}
    for problem, params, batch in recorder.steps:
        kinds[type(problem), tuple(sorted(params))] = (problem, params, batch)
    return list(kinds.values())


def with_weights(batch, weight: torch.Tensor):
    """The same batch with other weights (K, B); 0 takes an example out."""
    return replace(batch, weight=weight)
