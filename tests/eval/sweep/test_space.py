"""Grids, labels, and options by section."""

from eval.sweep.space import corners, grid, label_of, points_in, read_space, sections_of


def test_a_grid_has_every_combination_and_a_range_only_its_ends():
    space = read_space({"method.experts": [1, 3], "training.epochs": [1, 2, 5]})
    points = grid(space)
    assert points_in(space) == len(points) == 6
    assert points[:2] == [
        {"method.experts": 1, "training.epochs": 1},
        {"method.experts": 1, "training.epochs": 2},
    ]
    ranged = read_space({"training.epochs": {"low": 1, "high": 9}, "method": ["promptfl"]})
    assert points_in(ranged) is None
    assert list(corners(ranged)) == [
        {"training.epochs": 1, "method": "promptfl"},
        {"training.epochs": 9, "method": "promptfl"},
    ]


def test_a_point_becomes_sections_with_the_choice_first():
    point = {"method.experts": 3, "method": "pfedmoap", "training.learning_rate": 0.1}
    assert sections_of(point) == {
        "method": {"name": "pfedmoap", "experts": 3},
        "training": {"learning_rate": 0.1},
    }
    assert next(iter(sections_of(point)["method"])) == "name"


def test_labels_are_short_tell_equal_names_apart_and_fit_a_folder():
    assert label_of(3, {"training.learning_rate": 0.0123456, "method.experts": 5}) == (
        "3: learning_rate=0.01235, experts=5"
    )
    same = {"method.name": "promptfl", "data.name": "digits"}
    assert label_of(1, same) == "1: method.name=promptfl, data.name=digits"
    assert len(label_of(1, {f"method.option_{i}": "x" * 20 for i in range(30)})) == 100
