"""Options of the server that a method would ignore are refused; which methods average is listed."""

from dataclasses import dataclass, replace

import pytest

from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.config.server import ServerOptions
from pfedmoap.contract.tasks import Setting
from pfedmoap.contract.unread_options import gap_in_aggregation, refuse_unread_options
from pfedmoap.engine.simulation import Rounds, run_federation
from pfedmoap.errors import ConfigError
from pfedmoap.methods.promptfl import PromptFL
from pfedmoap.methods.registry import Methods, method_class
from tests.helpers.models import CLASS_NAMES, random_data

OTHERS = {"fedamp", "gmm_pt", "local_coop", "zero_shot"}


@pytest.fixture
def robust(clip):
    return replace(
        Setting(clip, CLASS_NAMES, Training(epochs=1, batch_size=4)),
        server=ServerOptions(aggregation="median"),
    )


def test_which_methods_average(clip):
    setting = Setting(clip, CLASS_NAMES, Training(epochs=1, batch_size=4))
    quick = {"fedsp": {"distillation_steps": 0}}
    gaps = {
        name: gap_in_aggregation(method_class(name)(setting, **quick.get(name, {})))
        for name in Methods()
    }
    assert {name for name, why in gaps.items() if why is not None} == OTHERS
    assert gap_in_aggregation(method_class("pfpt")(setting, result="candidates")) is not None


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_a_rule_that_changes_nothing_is_refused_before_the_first_round(robust, name):
    method = method_class(name)(robust)
    with pytest.raises(ConfigError, match=r"server\.aggregation median would change nothing: "):
        run_federation(method, random_data([4, 4]), Rounds(1), 0, NoPrivacy())
    refuse_unread_options(replace(method, setting=replace(robust, server=ServerOptions())))


@dataclass(frozen=True)
class FirstOnly(PromptFL):
    """A server that takes the first upload and says nothing of rules."""

    def aggregate(self, state, updates):
        return {"context": updates[0].arrays["context"]} if updates else state


@dataclass(frozen=True)
class StillAveraging(FirstOnly):
    """The same, which answers for itself."""

    def aggregation_gap(self):
        return None


def test_who_replaces_the_average_has_to_answer_for_itself(robust):
    with pytest.raises(ConfigError, match="replaces `aggregate` of AveragedPrompt"):
        refuse_unread_options(FirstOnly(robust))
    refuse_unread_options(PromptFL(robust))
    refuse_unread_options(StillAveraging(robust))
