"""What an actor of a simulation makes a run's method and privatizer of."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from eval.choices import schema
from eval.experiment import Experiment
from pfedmoap.client.privatizer import PlannedTraining, Privatizer
from pfedmoap.contract.method import AnyMethod
from pfedmoap.errors import BackboneError
from pfedmoap.methods.made import make_method


@dataclass(frozen=True)
class ActorRecipe:
    """A run's configuration, and what else its method depends on; see `Recipe`.

    Attributes:
        sections: The resolved configuration.
        class_names: Names of the classes, in the order of their numbers.
        templates: Hand-written prompts.
        fingerprint: Of the frozen model, which each actor loads by itself.
        planned: The training that noise is made for.
    """

    sections: Mapping[str, Any]  # options of any type
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    fingerprint: str
    planned: PlannedTraining

    def __call__(self) -> tuple[AnyMethod, Privatizer]:
        """Load the backbone, and make both.

        Raises:
            BackboneError: It has other weights than the run's.
        """
        config = schema().resolve(self.sections)
        options = config.build("backbone")
        if options.device.startswith("cuda:"):  # an actor sees no GPUs but its own
            options = replace(options, device="cuda")
        backbone = options.load_any()
        if backbone.fingerprint != self.fingerprint:
            raise BackboneError(
                f"an actor's backbone has the fingerprint {backbone.fingerprint[:12]}, the run's "
                f"has {self.fingerprint[:12]}: every machine needs the same weights"
            )
        method = make_method(config, backbone, self.class_names, self.templates)
        return method, config.build("privacy").privatizer(method, self.planned, None)


def recipe_of(experiment: Experiment) -> ActorRecipe:
    """The recipe of an experiment, which must be what its configuration says and no more."""
    setting = experiment.method.setting
    return ActorRecipe(
        experiment.config.sections,
        setting.class_names,
        setting.templates,
        setting.backbone.fingerprint,
        experiment.planned,
    )
