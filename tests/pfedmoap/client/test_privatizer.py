"""The null object, and what methods without a special analysis answer."""

import pytest
import torch

from pfedmoap.client.batches import Batch, Stream
from pfedmoap.client.privatizer import Authorisation, NoPrivacy, PlannedTraining, gap_of_one_phase
from pfedmoap.wire.messages import ClientId, Download, Update

ONE = ClientId(1)


class Square:
    """Half the squared distance of a number to each example, with a pull to zero."""

    def represent(self, params):
        return {"twice": 2 * params["x"]}

    def losses(self, params, shared, features, labels):
        return (features["y"] - shared["twice"][:, None]).pow(2) / 2

    def penalty(self, params):
        return params["x"].pow(2)


def test_plain_gradients_are_those_of_the_weighted_loss_and_the_penalty():
    batch = Batch(
        {"y": torch.tensor([[1.0, 3.0], [5.0, 9.0]])},
        torch.zeros(2, 2, dtype=torch.int64),
        torch.tensor([[0.5, 0.5], [1.0, 0.0]]),
        (Stream(0, ClientId(0), 1), Stream(0, ONE, 1)),
    )
    gradients, loss = NoPrivacy().gradients(Square(), {"x": torch.tensor([1.0, 2.0])}, batch)
    # d/dx sum_i w_i (y_i - 2x)^2 / 2 + x^2 = sum_i -2 w_i (y_i - 2x) + 2x
    assert gradients["x"].tolist() == [0 + 2, -2 + 4]
    assert loss.tolist() == [0.5, 0.5]
    assert not loss.requires_grad


def test_no_privacy_lets_everybody_in_and_everything_out():
    none = NoPrivacy()
    assert none.authorise([ONE], 3, known={ONE: 1}) == Authorisation((ONE,))
    update = Update(1, ONE, {}, 5, {"train_loss": 1.0})
    assert none.release(update, Download(1, ONE, {})) is update
    assert none.describe() == {}
    assert not none.decoupled
    assert none.privatizer(object(), PlannedTraining(1, 1, 1), None) is none


@pytest.mark.parametrize("mode", ["joint", "release"])
def test_one_private_phase_covers_what_is_trained_in_it(mode):
    assert gap_of_one_phase(mode) is None
    assert "Use mode joint" in str(gap_of_one_phase("decoupled"))
