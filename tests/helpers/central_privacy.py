"""Central privacy on a small federation: which methods admit it, and its privatizer."""

from dataclasses import replace

import torch

from pfedmoap.client.privatizer import PlannedTraining
from pfedmoap.methods.registry import method_class
from pfedmoap.wire.messages import ClientId, Update
from privacy.central_options import Central
from tests.helpers.training_steps import SIZES

QUICK = {"fedsp": {"distillation_steps": 2}}
CLIENTS = tuple(SIZES)
PLAN = PlannedTraining(3, 1, 3, clients=CLIENTS, participation=0.5)
EVERYBODY = replace(PLAN, participation=1.0)
AVERAGING = {
    "promptfl",
    "promptfl_ft",
    "fedprox",
    "fedper",
    "fedrep",
    "fedpgp",
    "fedotp",
    "fedkgcoop",
    "fedprograd",
    "fedclip",
    "pfedprompt",
    "promptfolio",
    "fedtpg",
    "dpfpl",
    "fedavg_pt",
    "fedprox_pt",
    "fedopt_pt",
    "fed_bbpt",
}


def made(name, setting):
    return method_class(name)(setting, **QUICK.get(name, {}))


def arrays_of(method, state):
    return {name: value.double() for name, value in method.to_arrays(state).items()}


def central(method, plan=EVERYBODY, **options):
    return Central(**{"insecure_seed": 3} | options).privatizer(method, plan, None)


def made_up_updates(method, state, counts):
    """Uploads that no training made: everything about them differs from client to client."""
    clients = [ClientId(i) for i in (2, 5, 11)]
    found = []
    for seed, (download, count) in enumerate(
        zip(method.plan(state, clients, 1), counts, strict=True)
    ):
        draws = torch.Generator().manual_seed(seed)
        found.append(
            Update(
                1,
                download.client,
                {
                    name: download.arrays[name].cpu()
                    + 0.1 * torch.randn(download.arrays[name].shape, generator=draws)
                    for name in method.uploads
                },
                count,
            )
        )
    return found
