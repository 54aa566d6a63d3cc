"""The reader of rendered scenes: sizes, names, domains, and what is held out."""

from dataclasses import replace

import numpy as np
import pytest

from pfedmoap.data.scenes.reader import Scenes, grid_classes
from pfedmoap.data.scenes.vocabulary import SHAPES, held_out
from pfedmoap.errors import ConfigError

SMALL = Scenes(styles=("photo", "negative"), train_per_cell=2, test_per_cell=1)


@pytest.mark.parametrize(
    ("grid", "classes"), [("combos24", 24), ("confus40", 40), ("shapes32", 32)]
)
def test_every_grid_has_full_cells(grid: str, classes: int) -> None:
    dataset = replace(SMALL, grid=grid).read()
    assert len(dataset.class_names) == classes
    assert dataset.domains is not None
    cells = np.stack([dataset.domains, dataset.labels, dataset.is_test], -1)
    unique, counts = np.unique(cells, axis=0, return_counts=True)
    assert len(unique) == 2 * classes * 2
    assert (counts == np.where(unique[:, 2] == 1, 1, 2)).all()
    assert dataset.load(len(dataset) - 1).size == (32, 32)


def test_one_style_has_no_domains() -> None:
    dataset = Scenes(train_per_cell=1, test_per_cell=1).read()
    assert dataset.domains is None
    assert dataset.domain_names == ()


def test_combinations_and_shapes_are_held_out_from_pretraining() -> None:
    for grid in ("combos24", "shapes32"):
        _, cells = grid_classes(grid)
        assert all(held_out()[tuple(triple)] for triples in cells for triple in triples)


def test_names_are_readable_and_ordered() -> None:
    names, cells = grid_classes("confus40")
    assert names[0] == "striped red circle"
    assert len(set(names)) == 40
    assert [len(triples) for triples in cells] == [1] * 40
    assert grid_classes("shapes32")[0] == tuple(SHAPES)


def test_pictures_depend_on_the_seed_and_not_on_other_styles() -> None:
    both, alone = SMALL.read(), replace(SMALL, styles=("negative",)).read()
    offset = len(both) // 2
    for i in (0, 17, len(alone) - 1):
        assert both.load(offset + i).tobytes() == alone.load(i).tobytes()
    assert both.fingerprint == SMALL.read().fingerprint
    assert both.fingerprint != replace(SMALL, seed=1).read().fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": "all"}, "grid is 'all'"),
        ({"styles": ("photo", "cubist")}, "cubist"),
        ({"styles": ()}, "at least one"),
        ({"styles": ("photo", "photo")}, "each once"),
        ({"train_per_cell": 0}, "at least 1"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, **options).read()
