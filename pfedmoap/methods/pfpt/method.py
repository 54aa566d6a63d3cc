"""PFPT: prompt sets merged by matching, not by position (Weng et al., NeurIPS 2024).

Full title: "Probabilistic Federated Prompt-Tuning with Non-IID and Imbalanced Data", by P.-Y. Weng,
M. Hoang, L. M. Nguyen, M. T. Thai, T.-W. Weng and T. N. Hoang, arXiv 2502.19752. There is one
global pool of prompts. A client trains a copy; each image is classified with the few prompts
nearest to its frozen feature. Two clients that train the same prompt may train it towards different
ends, so the server treats the uploads as sets without an order: `pfedmoap.methods.pfpt.merging`
finds which prompts belong together, averages those, and drops prompts that no client uses.

Follows the paper: visual tokens after the class token, without positions; prompts as their own
keys; the images of a training batch vote for its prompts; cross-entropy *plus* 0.01 times the
similarity; Adam(0.9, 0.98, 1e-6), new in each round; every client's whole set enters the merge,
also prompts it did not train, except those that no client trained; no weights in the merge, and
training-set sizes as weights for a trained head and projection.

Where we depart: classes are told apart by the frozen features of their names (``head: trained``
and ``projection: true`` give the paper's way, without its dropout; the bytes of both are counted
under their own names). Tokens start around the tower's class token: random ones, as in the paper,
disturb a frozen tower, and on unusual images the clients' training cannot compensate for it
(``initial: random``). In prediction every image takes its own nearest prompts, so that its answer
does not depend on the others. Only training decides what counts as used; the released code also
counts prompts that its evaluation on the *test* set chose. ``upload: own`` saves what a client did
not touch; ``upload: all`` does not say what was touched. ``modality: text`` makes each element a
whole text context. `merging.merge` lists the departures of the merge.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Annotated, Literal

import torch
from torch import Tensor

from pfedmoap.client.privatizer import Mode
from pfedmoap.config.bounds import Bounds, Count, Positive
from pfedmoap.contract.stacking import TrainedClient
from pfedmoap.contract.tasks import ArraySpec, ClientResult
from pfedmoap.errors import ConfigError
from pfedmoap.methods.pfpt.generative_model import Objective, Spread, Usage
from pfedmoap.methods.pfpt.merging import Merging, Result, Start, merge
from pfedmoap.methods.prompt_set import PromptSet
from pfedmoap.prompts.set_elements import PROMPTS
from pfedmoap.prompts.set_selection import Rule
from pfedmoap.prompts.set_tuning import SetOptions, moved_rows
from pfedmoap.seeding import derive_seed
from pfedmoap.server.aggregation import Weighting, combine
from pfedmoap.wire.messages import Arrays, Update

USED = "used"


@dataclass(frozen=True)
class PFPT(PromptSet):
    """The method with its hyperparameters; defaults are the paper's where it has one.

    Attributes:
        prompts: Prompts in the pool at the start.
        selection: Who chooses in training: the ``batch`` or each ``sample``; ``all`` uses all.
        similarity_weight: Weight of the similarity in the loss; negative turns its sign.
        most_prompts: Most that the pool may grow to; of more, those with most clients stay.
        head: ``text`` features of the class names, or a ``trained`` network.
        projection: Train a projection of the query.
        upload: ``union`` sends the whole pool and which of it was used, ``own`` only what the
            client used, ``all`` the whole pool as if all of it were used.
        start: First assignment, ``sequential`` or ``random``; see `Merging`.
        spread: Meaning of the scatter network, ``variance`` or ``deviation``; see `PromptModel`.
        usage: Form of the matching's popularity term, ``log_odds`` or ``incumbent``.
        objective: What a step of the merge improves: the paper's ``whole`` objective, or one
            client's terms, as ``released``; see `Merging`.
        passes: Most passes of the merge over the clients.
        patience: Stop the merge after so many passes without a change; none never does.
        largest_scatter: Bound on the variance of prompts around their candidate; see `Merging`.
        result: The merge's ``means`` or its ``candidates``; see `Merging`.
    """

    selection: Rule = "batch"
    weighting: Weighting = field(default="examples", init=False)  # no option
    most_prompts: Annotated[int, Bounds(ge=1, le=10_000)] = 100
    head: Literal["text", "trained"] = "text"
    projection: bool = False
    upload: Literal["union", "own", "all"] = "union"
    start: Start = "sequential"
    spread: Spread = "variance"
    usage: Usage = "log_odds"
    objective: Objective = "whole"
    passes: Annotated[int, Bounds(ge=1, le=100_000)] = 50
    patience: Count | None = 5
    largest_scatter: Positive = 0.5
    result: Result = "means"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.chosen <= self.prompts <= self.most_prompts:
            raise ConfigError(
                "pfpt needs 1 <= chosen <= prompts <= most_prompts, got "
                f"{self.chosen}, {self.prompts} and {self.most_prompts}"
            )
        self._merging  # noqa: B018  # raises what is wrong with its options before any work

    @property
    def uploads(self) -> dict[str, ArraySpec]:
        """The set, which of it was used, and a trained head and projection."""
        spec = partial(ArraySpec, rows_of=PROMPTS)
        prompts = partial(spec, fewer_rows=self.upload == "own")
        used = spec((self.most_prompts,), dtype=torch.bool)
        uploads = self.sets.uploads(prompts, self.most_prompts)
        return {**uploads, USED: used} if self.upload == "union" else uploads

    def privacy_gap(self, mode: Mode) -> str | None:
        """See `HasPrivacyAnalysis`: votes for prompts, and which were used, depend on the data."""
        if mode == "release" and self.upload != "all":
            return (
                f"with upload {self.upload!r} the client also says which prompts its images chose, "
                "and no noise covers that; use upload 'all'"
            )
        return super().privacy_gap(mode)

    def aggregate(self, state: Arrays, updates: Sequence[Update]) -> Arrays:
        """Merge the sets; average what is beside them."""
        updates = sorted(updates, key=lambda update: update.client)
        sets = self._used(updates)
        if not sets:
            return state
        seed = derive_seed(self.setting.seed, "merge", updates[0].round)
        merged = merge([one.flatten(1) for one in sets], self._merging, seed)
        most = merged.support.argsort(descending=True, stable=True)[: self.most_prompts]
        pool = merged.prompts[most.sort().values].unflatten(1, self.sets.elements.shape)
        beside = {name: state[name] for name in self.sets.elements.extras}
        return {PROMPTS: pool} | combine(beside, updates, self.weighting, self.setting.server)

    def aggregation_gap(self) -> str | None:
        """See `AveragesByRule`: matched prompts are averaged so, and what is beside the set."""
        if self.result == "means":
            return None
        return "with method.result candidates, pfpt averages no matched prompts; use means"

    def divide(self, client: TrainedClient) -> ClientResult:
        """Upload the set in the chosen form."""
        used = moved_rows(client.task.download.arrays[PROMPTS], client.params[PROMPTS])
        uploads = dict(client.params)
        if self.upload == "union":
            uploads[USED] = used
        if self.upload == "own" and used.any():
            uploads[PROMPTS] = uploads[PROMPTS][used]
        return client.result(uploads, keeps={})

    def _used(self, updates: Sequence[Update]) -> list[Tensor]:
        """The sets that enter the merge, each (u_t, ...)."""
        sets = [update.arrays[PROMPTS] for update in updates]
        if self.upload != "union" or not sets:
            return sets
        union = torch.stack([update.arrays[USED] for update in updates]).any(0)
        return [one[union] for one in sets] if union.any() else []

    @cached_property
    def _merging(self) -> Merging:
        return Merging(
            start=self.start,
            spread=self.spread,
            usage=self.usage,
            objective=self.objective,
            passes=self.passes,
            patience=self.patience,
            largest_scatter=self.largest_scatter,
            result=self.result,
            server=self.setting.server,
        )

    @property
    def options(self) -> SetOptions:
        """How sets are made, with a trained head and projection where asked for."""
        return replace(super().options, head=self.head, projection=self.projection)


METHOD = PFPT
