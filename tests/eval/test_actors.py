"""A run's method, made anew in an actor's process, is the same method with the same noise."""

import pickle
from dataclasses import replace

import pytest
import torch

from eval.actors import recipe_of
from eval.choices import schema
from pfedmoap.errors import BackboneError
from pfedmoap.methods.made import make_method
from tests.helpers.runs import small


def test_an_actor_makes_the_same_method_and_noise(cache, loader):
    privacy = {"name": "dpsgd", "noise_multiplier": 1.5, "insecure_seed": 4}
    experiment = loader.prepare(schema().resolve(small(cache, privacy=privacy)))
    recipe = pickle.loads(pickle.dumps(recipe_of(experiment)))
    method, privatizer = recipe()
    here = experiment.method
    assert type(method) is type(here)
    assert method.setting.class_names == here.setting.class_names
    assert method.setting.templates == here.setting.templates
    assert method.setting.training == here.setting.training
    assert method.setting.rounds == here.setting.rounds
    assert method.uploads == here.uploads
    assert torch.equal(method.init().context, here.init().context)
    assert privatizer.mechanism.noise_multiplier == 1.5
    assert privatizer.describe() == experiment.privatizer(None).describe()
    again = make_method(experiment.config, here.setting.backbone, ("a", "b"), ("{}",))
    assert again.setting.class_names == ("a", "b")


def test_other_weights_on_another_machine_are_refused(cache, loader):
    recipe = recipe_of(loader.prepare(schema().resolve(small(cache))))
    with pytest.raises(BackboneError, match="every machine needs the same weights"):
        replace(recipe, fingerprint="0" * 64)()


def test_an_actor_on_a_machine_with_many_gpus_takes_the_one_that_it_was_given(
    cache, loader, monkeypatch
):
    recipe = recipe_of(loader.prepare(schema().resolve(small(cache))))
    seen = []

    def load(options):
        seen.append(options.device)
        return loader.backbone(schema().resolve(small(cache)))

    monkeypatch.setattr("pfedmoap.models.loading.BackboneOptions.load_any", load)
    for device in ("cuda:3", "cuda", "cpu"):
        sections = {
            **recipe.sections,
            "backbone": {**recipe.sections["backbone"], "device": device},
        }
        replace(recipe, sections=sections)()
    assert seen == ["cuda", "cuda", "cpu"]
