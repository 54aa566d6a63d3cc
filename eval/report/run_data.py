"""The data that the report needs of one run, read or computed once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.accuracy import ClientScore, score
from eval.choices import schema
from eval.client_csv import read_client_csv
from eval.data_of_run import has_its_data_at_sites
from eval.experiment import Experiment, ExperimentLoader
from eval.predictions import ClientPredictions, predict_clients, states_for_prediction
from eval.promise import spent_epsilon
from eval.running import load_outcome
from pfedmoap.engine.simulation import FederationState
from pfedmoap.errors import PFedMoAPError, RunError
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.log import Record
from pfedmoap.storage.atomic_files import read_json
from pfedmoap.wire.messages import ClientId

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """One run.

    Attributes:
        name: What the page calls it.
        folder: Its directory.
        config: Its configuration.
        task: Class names and the clients' class counts.
        records: Its metrics, one a round.
        predictions: Predictions of every client's models after the last round; none of a
            federation whose data are at its sites.
        scores: The same as figures; a federation's are what its sites sent.
        zero_shot: Accuracy of hand-written prompts by client; ``None`` where it is not known.
        prompts: Every trained client's own prompt, flattened.
        global_prompt: The server's prompt, flattened; ``None`` without one.
        epsilon: Privacy loss that each client has spent; empty without differential privacy.
        guarantee: What the run states about its privacy; empty where there is none.
    """

    name: str
    folder: Path
    config: Record
    task: Record
    records: list[Record]
    predictions: tuple[ClientPredictions, ...]
    scores: tuple[ClientScore, ...]
    zero_shot: Mapping[ClientId, float] | None
    prompts: Mapping[ClientId, FloatArray]
    global_prompt: FloatArray | None
    epsilon: Mapping[ClientId, float]
    guarantee: Record

    @property
    def at_sites(self) -> bool:
        """Whether the data and the personal models are elsewhere: at the sites of a federation."""
        return has_its_data_at_sites(self.task)

    @property
    def ids(self) -> list[ClientId]:
        """The client of each row of `counts`; those of a federation that sites left have gaps."""
        return [ClientId(one.get("client", row)) for row, one in enumerate(self.task["clients"])]

    @property
    def class_names(self) -> list[str]:
        """In label order."""
        return list(self.task["class_names"])

    def counts(self, division: str = "train") -> NDArray[np.int64]:
        """Images by client and class, (N, C)."""
        return np.array([client[division] for client in self.task["clients"]], dtype=np.int64)

    def groups(self) -> list[str]:
        """What each client is coloured and ordered by: its domain, or else its commonest class."""
        if self.task["domains"]:
            return [str(client["domain"]) for client in self.task["clients"]]
        return [self.class_names[int(row.argmax())] for row in self.counts()]

    def group_names(self) -> list[str]:
        """Groups that have a client, in the order of domains or labels."""
        present = set(self.groups())
        known = self.task["domains"] or self.class_names
        return [str(name) for name in known if name in present]

    def ordered(self) -> list[int]:
        """Rows of `counts` group by group, so that related ones are neighbours."""
        rank = {name: i for i, name in enumerate(self.group_names())}
        groups, counts = self.groups(), self.counts()
        return sorted(
            range(len(groups)), key=lambda i: (rank[groups[i]], int(counts[i].argmax()), i)
        )


def read_evidence(
    folder: Path, loader: ExperimentLoader, name: str | None = None, root: str | None = None
) -> Evidence:
    """Read a run and predict its clients' test images again.

    Args:
        folder: Its directory.
        loader: Loads backbone, data and cached features.
        name: What the page calls it; ``None`` takes the folder's name.
        root: Where the data are, if they have moved.

    Returns:
        The evidence.

    Raises:
        RunError: It is no run, or has no complete round.
    """
    run = RunDirectory(folder)
    name = name or folder.resolve().name
    bare = Evidence(
        name=name,
        folder=folder,
        config=run.config,
        task=run.task,
        records=run.metrics(),
        predictions=(),
        scores=(),
        zero_shot=None,
        prompts={},
        global_prompt=None,
        epsilon=spent_epsilon(run),
        guarantee=read_json(stated) if (stated := run.whole("privacy.json")).exists() else {},
    )
    if bare.at_sites:
        return replace(bare, scores=_sent_scores(run))
    experiment, now = load_outcome(run, loader, root)
    local_states = states_for_prediction(
        experiment.method, now, experiment.federation, unseen=experiment.unseen
    )
    predictions = predict_clients(
        experiment.method,
        now,
        local_states,
        experiment.federation,
        experiment.unseen,
        private=experiment.private,
    )
    shared = experiment.method.to_arrays(now.state).get("context")
    return replace(
        bare,
        predictions=predictions,
        scores=score(predictions),
        zero_shot=_zero_shot(experiment, loader),
        prompts={
            client: _flat(local["context"])
            for client in sorted(now.local_states)
            if "context" in (local := now.local_states[client])
        },
        global_prompt=None if shared is None else _flat(shared),
    )


def _sent_scores(run: RunDirectory) -> tuple[ClientScore, ...]:
    """The scores that a federation's sites sent after its last round."""
    table = run.layout.where("per_client.csv")
    if run.layout.divided and not table.exists():
        raise RunError(
            f"{run.path} is the run of a private federation, whose sites send no scores: there is "
            "nothing to make a page of. Each site has its own in scores.jsonl; `pfedmoap status` "
            "shows rounds and budgets"
        )
    if not table.exists():
        raise RunError(
            f"{run.path} is a federation's run without a table of its sites' scores: sites send "
            "them after the last round. Serve it to its end first; `pfedmoap status` says how far "
            "it is"
        )
    return read_client_csv(table)


def _zero_shot(experiment: Experiment, loader: ExperimentLoader) -> dict[ClientId, float] | None:
    """Accuracy of hand-written prompts on the same test images."""
    sections = dict(experiment.config.sections) | {"method": {"name": "zero_shot"}}
    try:
        reference = loader.prepare(schema().resolve(sections), to_run=False)
    except PFedMoAPError:
        return None  # optional: a report does without this reference
    nobody: FederationState[Any] = FederationState(0, reference.method.init(), {})
    scores = reference.test(nobody)
    return {one.client: one.accuracy for one in scores}


def _flat(context: Any) -> FloatArray:  # a tensor of any shape
    return np.asarray(context.detach().cpu().double().flatten().numpy())
