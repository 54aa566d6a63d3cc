"""One client's model as a run has it, and folded for a folder of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pfedmoap.client.local_training import Training
from pfedmoap.config.sampling import Seeds
from pfedmoap.config.schema import Schema
from pfedmoap.config.server import PoolOptions, ServerOptions
from pfedmoap.contract.folding import Folded, fold
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import Prediction
from pfedmoap.engine.simulation import Rounds
from pfedmoap.errors import BackboneError, MethodError, RunError
from pfedmoap.exported.folder import Parts
from pfedmoap.exported.heads import make_head
from pfedmoap.exported.record import ModelRecord, Origin
from pfedmoap.methods.made import make_method
from pfedmoap.methods.registry import Methods
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.clip.preprocessing import Preprocessing
from pfedmoap.models.loading import BackboneOptions
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import Arrays, ClientId, Download

_NEEDED = ("backbone", "training", "rounds", "seeds", "method")  # of a run's configuration
_SINCE = ("server", "pool")  # what runs of earlier versions lack

AGREES = 1e-4
"""Largest difference in probabilities between a run's model and the folded one."""

SAME, SAME_IN_HALF = 1e-4, 0.05
"""Largest difference of the image tower's features, of unit norm, from those of the tower that is
built again; in half where the run computes in 16 bits, since exported models compute in 32."""


@dataclass(frozen=True)
class PersonalModel:
    """A client's model with all that it needs to answer.

    Attributes:
        backbone: The frozen model.
        options: How it was loaded.
        method: The method that trained the client.
        class_names: In label order.
        download: What the server would send this client now.
        local: What the client kept; ``None`` for one that never took part.
        round: The run's last round.
        method_name: The method's name in the run's configuration.
    """

    backbone: FrozenCLIP
    options: BackboneOptions
    method: AnyMethod
    class_names: tuple[str, ...]
    download: Download
    local: Arrays | None
    round: int
    method_name: str

    @property
    def preprocessing(self) -> Preprocessing:
        """Of its images."""
        return self.backbone.preprocessing

    @property
    def backbone_name(self) -> str:
        """Of the frozen model."""
        return self.backbone.name

    def predict(self, pixels: Tensor) -> Prediction:
        """Classify preprocessed images (B, 3, S, S)."""
        features = self.backbone.features(pixels, self.method.features)
        return self.method.predict(self.download, self.local, features)

    def parts(self, version: str) -> Parts:
        """Fold the model, and see that it answers as before.

        Args:
            version: Of this package, for the record.

        Raises:
            MethodError: The method cannot, or the folded model answers otherwise.
            BackboneError: The image tower is not one that can be built again.
        """
        folded = fold(self.method, self.download, self.local)
        record = ModelRecord(
            self.class_names,
            self.preprocessing,
            self.options.architecture(),
            folded.kind,
            folded.options,
            folded.experts,
            Origin(
                version,
                self.method_name,
                self.download.client,
                self.round,
                _name(self.options),
                self.backbone.fingerprint,
            ),
        )
        tower: Arrays = self.backbone.model.visual.state_dict()
        parts = Parts(record, _on_cpu(tower), _on_cpu(folded.arrays))
        self._check(folded, parts)
        return parts

    def _check(self, folded: Folded, parts: Parts) -> None:
        """Compare answers and features of noise; raises where they differ."""
        side, tower = self.preprocessing.size, self.backbone.images
        noise = torch.randn(4, 3, side, side, generator=generator(0, "exported"))
        head = make_head(folded, tower, len(self.class_names))
        kinds = tuple(dict.fromkeys((*self.method.features, *head.reads)))
        seen = tower.features(noise, kinds)
        with torch.no_grad():
            theirs = head(seen)[0].softmax(-1).cpu()
        ours = self.method.predict(self.download, self.local, seen).logits.softmax(-1).cpu()
        apart = float((ours - theirs).abs().max())
        if not apart <= AGREES:  # true of what is no number, too
            raise MethodError(
                f"the exported model would answer otherwise than the run (probabilities differ by "
                f"{apart:.2g}, at most {AGREES:g} is rounding), so that none is written: `fold` of "
                f"{type(self.method).__name__} does not say what its `predict` does"
            )
        again = parts.model(self.backbone.device).tower.features(noise, head.reads)
        most = SAME if self.options.precision == "fp32" else SAME_IN_HALF
        for kind in head.reads:
            size = float(seen[kind].abs().max())
            apart = float((again[kind] - seen[kind]).abs().max()) / max(size, 1.0)
            if not apart <= most:
                raise BackboneError(
                    f"the image tower of {_name(self.options)} cannot be built again: features of "
                    f"kind {kind!r} differ by {apart:.2g}, at most {most:g} is rounding"
                )


def personal_model(run: str | Path, client: int, device: str = "auto") -> PersonalModel:
    """Load a client's model from a run directory; the training data are not needed.

    Args:
        run: The run directory.
        client: Which client.
        device: Where to run; ``auto`` takes CUDA where present.

    Raises:
        RunError: The run is damaged, not complete, or has no such client.
    """
    directory = RunDirectory(run)
    task = directory.task
    known = [entry["client"] for entry in task["clients"]]
    if client not in known:
        raise RunError(f"{run} has no client {client}; it has {known[0]} to {known[-1]}")
    sections = directory.config
    sections["backbone"]["device"] = device
    given = [name for name in (*_NEEDED, *_SINCE) if name in _NEEDED or name in sections]
    config = _schema().resolve({name: sections[name] for name in given})
    options: BackboneOptions = config.build("backbone")
    backbone = options.load()
    if backbone.fingerprint != task["backbone"]:
        raise RunError(
            f"{run} was trained with other weights of {backbone.name} than those that are "
            "loaded now; its prompts mean nothing to them. Load the weights it was trained with"
        )
    names = tuple(task["class_names"])
    method = make_method(config, backbone, names, tuple(task["templates"]))
    state = method.from_arrays(directory.load_server())
    download = method.plan(state, [ClientId(client)], directory.round + 1)[0]
    local = directory.load_client(ClientId(client))
    name = _word(sections["method"])
    return PersonalModel(backbone, options, method, names, download, local, directory.round, name)


def _word(section: Mapping[str, Any]) -> str:
    """A method's name; of one in a file, without its folder."""
    return Path(str(section["name"])).name


def _name(options: BackboneOptions) -> str:
    """A backbone's name; of one in a folder or file, without where that lies on this machine."""
    model, weights = options.model, options.pretrained
    if model.startswith("local-dir:"):
        model = f"local-dir:{Path(model.removeprefix('local-dir:')).name}"
    if weights is not None and Path(weights).name != weights:
        weights = Path(weights).name
    return model if weights is None else f"{model}/{weights}"


def _on_cpu(arrays: Arrays) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in arrays.items()}


@cache
def _schema() -> Schema:
    return Schema(
        fixed={
            "backbone": BackboneOptions,
            "training": Training,
            "rounds": Rounds,
            "seeds": Seeds,
            "server": ServerOptions,
            "pool": PoolOptions,
        },
        choices={"method": Methods()},
        defaults={},
    )
