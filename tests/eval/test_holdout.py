"""Halving classes and holding clients out."""

import numpy as np
import pytest

from eval.choices import schema
from eval.generalisation import has_new_classes
from eval.holdout import class_part, unseen_clients, validation_note
from pfedmoap.data.digits import Digits
from pfedmoap.errors import ConfigError
from pfedmoap.wire.messages import ClientId


def test_parts_divide_classes_and_images():
    whole = Digits().read()
    base, new = class_part(whole, "base"), class_part(whole, "new")
    assert base.class_names + new.class_names == whole.class_names
    assert len(base) + len(new) == len(whole)
    assert set(base.labels) == set(new.labels) == set(range(5))
    assert len({base.fingerprint, new.fingerprint, whole.fingerprint}) == 3
    assert class_part(whole, "all") is whole


def test_parts_keep_images_labels_and_division_together():
    whole = Digits().read()
    new = class_part(whole, "new")
    origin = np.flatnonzero(whole.labels >= 5)
    for i in (0, 7, len(new) - 1):
        assert new.load(i).tobytes() == whole.load(int(origin[i])).tobytes()
        assert new.labels[i] + 5 == whole.labels[origin[i]]
        assert new.is_test[i] == whole.is_test[origin[i]]


def test_unseen_clients_depend_on_the_seed_alone_and_grow():
    everybody = [ClientId(i) for i in range(10)]
    three = unseen_clients(everybody, 3, seed=0)
    assert len(three) == 3
    assert three == unseen_clients(reversed(everybody), 3, seed=0)
    assert three < unseen_clients(everybody, 5, seed=0)
    assert unseen_clients(everybody, 0, seed=0) == frozenset()


@pytest.mark.parametrize("count", [-1, 4, 5])
def test_somebody_must_train(count: int):
    with pytest.raises(ConfigError, match="one at least must train"):
        unseen_clients([ClientId(i) for i in range(4)], count, seed=0)


def test_a_run_that_holds_images_out_says_so_and_leaves_new_classes_alone():
    """Also where a run of an earlier version does not know the option."""
    assert validation_note({"sampling": {}}) is None
    assert validation_note({"sampling": {"validation": 0.0}}) is None
    said = validation_note({"sampling": {"validation": 0.25}})
    assert said is not None
    assert "25% of each client's training images" in said
    base = {"sampling": {"classes": "base"}}
    assert has_new_classes(schema().resolve(base))
    held = {"sampling": {"classes": "base", "validation": 0.2}}
    assert not has_new_classes(schema().resolve(held))
