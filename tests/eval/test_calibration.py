"""Calibration against errors worked out by hand and one example at a time."""

import numpy as np
import pytest

from eval.calibration import reliability, reliability_of
from eval.predictions import Answers
from pfedmoap.errors import DataError


def test_error_by_hand_with_two_bins():
    # (0, .5]: confidence .4 and .5, one right; (.5, 1]: .9 and .7, both right
    diagram = reliability(np.array([0.4, 0.5, 0.9, 0.7]), np.array([True, False, True, True]), 2)
    assert diagram.counts.tolist() == [2, 2]
    assert diagram.accuracy.tolist() == [0.5, 1.0]
    assert diagram.confidence.tolist() == pytest.approx([0.45, 0.8])
    assert diagram.ece == pytest.approx(0.5 * 0.05 + 0.5 * 0.2)


def test_bins_are_open_below_and_closed_above():
    diagram = reliability(np.array([0.0, 0.5, 1.0]), np.array([True, True, True]), 2)
    assert diagram.counts.tolist() == [2, 1]


def test_certain_and_right_is_calibrated_and_certain_and_wrong_is_not():
    assert reliability(np.ones(4), np.ones(4, bool)).ece == 0.0
    assert reliability(np.ones(4), np.zeros(4, bool)).ece == 1.0


def test_error_matches_one_example_at_a_time():
    rng = np.random.default_rng(0)
    confidence, correct = rng.random(500), rng.random(500) < 0.6
    diagram = reliability(confidence, correct, 10)
    slow = 0.0
    for b in range(10):
        inside = [i for i in range(500) if b / 10 < confidence[i] <= (b + 1) / 10]
        gap = sum(correct[i] for i in inside) - sum(confidence[i] for i in inside)
        slow += abs(gap) / 500
    assert diagram.ece == pytest.approx(slow)


def test_diagram_of_several_clients_counts_images_not_clients():
    one = Answers(np.array([0, 0]), np.array([1.0, 1.0]))
    two = Answers(np.array([1]), np.array([1.0]))
    diagram = reliability_of([one, two], [np.array([0, 0]), np.array([0])])
    assert diagram.ece == pytest.approx(1 / 3)


def test_nothing_and_impossible_confidence_are_refused():
    with pytest.raises(DataError, match="at least 1"):
        reliability(np.array([]), np.array([], bool))
    with pytest.raises(DataError, match="expected the same"):
        reliability(np.array([0.5]), np.array([True, False]))
    for wrong in (1.5, -0.1, np.nan):
        with pytest.raises(DataError, match="not in"):
            reliability(np.array([0.5, wrong]), np.array([True, True]))


def test_a_confidence_that_rounding_put_above_1_is_certain():
    diagram = reliability(np.array([1 + 1e-7, 1.0]), np.array([True, True]), 4)
    assert diagram.counts.tolist() == [0, 0, 0, 2]
