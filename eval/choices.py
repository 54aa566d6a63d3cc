"""Every section and choice that a configuration can have."""

from dataclasses import replace
from functools import cache

from eval.configurations import located
from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.config.sampling import Sampling, Seeds
from pfedmoap.config.schema import Schema
from pfedmoap.config.server import PoolOptions, ServerOptions
from pfedmoap.data.clusters import Clusters
from pfedmoap.data.csv_table import CSVTable
from pfedmoap.data.digits import Digits
from pfedmoap.data.dirichlet import Dirichlet, DomainDirichlet
from pfedmoap.data.federation import Features
from pfedmoap.data.folder import ImageFolder
from pfedmoap.data.partition import IID, Pathological
from pfedmoap.data.published.catalogue import READERS
from pfedmoap.data.questions.reader import Questions
from pfedmoap.data.scenes.reader import Scenes
from pfedmoap.data.superclasses import Superclasses
from pfedmoap.engine.engines import ENGINES
from pfedmoap.engine.simulation import Rounds
from pfedmoap.methods.registry import Methods
from pfedmoap.models.loading import BackboneOptions
from privacy.central_options import Central
from privacy.options import DPSGD, Release


@cache
def schema() -> Schema:
    """All sections and choices of a configuration."""
    return Schema(
        fixed={
            "backbone": BackboneOptions,
            "sampling": Sampling,
            "features": Features,
            "training": Training,
            "rounds": Rounds,
            "server": ServerOptions,
            "pool": PoolOptions,
            "seeds": Seeds,
        },
        choices={
            "data": {"digits": Digits, "scenes": Scenes, "folder": ImageFolder, "csv": CSVTable}
            | {"questions": Questions}
            | dict(READERS),
            "partition": {
                "pathological": Pathological,
                "dirichlet": Dirichlet,
                "domain": DomainDirichlet,
                "iid": IID,
                "clusters": Clusters,
                "superclasses": Superclasses,
            },
            "method": Methods(),
            "privacy": {
                "none": NoPrivacy,
                "dpsgd": DPSGD,
                "release": Release,
                "central": Central,
            },
        },
        defaults={
            "data": "digits",
            "partition": "dirichlet",
            "method": "pfedmoap",
            "privacy": "none",
        },
        aliases={
            "device": ("backbone.device",),
            "seed": ("seeds.partition", "seeds.few_shot", "seeds.training"),
        },
        locate=located,
    )


@cache
def training_schema() -> Schema:
    """The same, with where clients train, for what runs an experiment as it is configured.

    Commands that change a round or look into it (audits, attacks, leakage) train in their own
    process and have no such section.
    """
    base = schema()
    return replace(
        base,
        choices={**base.choices, "engine": ENGINES},
        defaults={**base.defaults, "engine": "local"},
        apart=("engine",),
    )
