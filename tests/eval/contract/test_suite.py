"""The contract suite finds what is wrong with a method, also from the command line."""

from dataclasses import dataclass, replace

import pytest
import torch

from eval.commands.check_method import main, prepare
from eval.contract.suite import CHECKS, run_checks
from pfedmoap.contract.server_rows import ServerRows, joined
from pfedmoap.errors import MethodError, UpdateRejectedError
from pfedmoap.methods.promptfl import PromptFL


@dataclass(frozen=True)
class SendsInAnyOrder(PromptFL):
    def plan(self, state, cohort, round):
        return [super(SendsInAnyOrder, self).plan(state, [one], round)[0] for one in cohort]


@dataclass(frozen=True)
class TakesTheLastUpdate(PromptFL):
    def aggregate(self, state, updates):
        return {"context": updates[-1].arrays["context"]} if updates else state


@dataclass(frozen=True)
class StartsAnywhere(PromptFL):
    def init(self):
        return {"context": torch.randn(16, 32)}


@dataclass(frozen=True)
class UploadsMore(PromptFL):
    def divide(self, client):
        result = super().divide(client)
        arrays = {**result.update.arrays, "gate": torch.ones(3)}
        return replace(result, update=replace(result.update, arrays=arrays))


@dataclass(frozen=True)
class WritesIntoItsState(PromptFL):
    def aggregate(self, state, updates):
        state["context"].copy_(super().aggregate(state, updates)["context"])
        return state


@dataclass(frozen=True)
class Forgets(PromptFL):
    def to_arrays(self, state):
        return {"context": state["context"].half()}


@dataclass(frozen=True)
class AveragesTheBatch(PromptFL):
    def predict(self, download, local, features):
        answer = super().predict(download, local, features)
        return replace(answer, logits=answer.logits - answer.logits.mean(0))


@dataclass(frozen=True)
class NeedsLocalState(PromptFL):
    def predict(self, download, local, features):
        if local is None:
            raise AssertionError("newcomer")
        return super().predict(download, local, features)


@dataclass(frozen=True)
class SendsAnOlderModel(PromptFL):
    def predict_sent(self, download, features):
        return self.predict_global(self.init(), features)


@dataclass(frozen=True)
class Unexplained(PromptFL):
    """A method."""

    knob: float = 1.0


@dataclass(frozen=True)
class ClaimsToAverage(PromptFL):
    def privacy_gap(self, mode):
        return None

    def aggregate(self, state, updates):
        contexts = [update.arrays["context"] for update in updates]
        return {"context": torch.stack(contexts).median(0).values} if updates else state


@dataclass(frozen=True)
class HoldsWhatChangesForAll(PromptFL):
    def divided(self, state):
        entries = {client: {"context": state["context"]} for client in range(9)}
        return {}, ServerRows("owners", entries)

    def to_arrays(self, state):
        return joined(*self.divided(state))


WRONG = {
    HoldsWhatChangesForAll: "rows of the server change with their cohort alone",
    SendsInAnyOrder: "order of the cohort is irrelevant to the plan",
    TakesTheLastUpdate: "order of tasks and updates is irrelevant",
    StartsAnywhere: "global random state is neither read nor changed",
    UploadsMore: "uploads are exactly the declared arrays",
    WritesIntoItsState: "inputs are left alone",
    Forgets: "saved and loaded state goes on identically",
    AveragesTheBatch: "examples are classified independently",
    NeedsLocalState: "a client that never took part can predict and join",
    ClaimsToAverage: "a method for central privacy sees uploads through their mean",
    SendsAnOlderModel: "the global model is all in what clients are sent",
    Unexplained: "is a documented frozen dataclass",
}


@pytest.mark.parametrize("kind", WRONG)
def test_finds_what_is_wrong(kind, clip):
    world = prepare("promptfl", {}, clip)
    world = replace(world, method=kind(world.method.setting))
    world.rounds(3)  # as other checks have run before this one
    with pytest.raises((MethodError, UpdateRejectedError, AssertionError)):
        CHECKS[WRONG[kind]](world)


def test_first_rounds_are_run_once_for_all_checks_and_anew_for_another_federation(clip):
    world = prepare("promptfl", {}, clip)
    _, local_states, (first, *_) = world.rounds(2)
    local_states.clear()
    _, kept, (again, *_) = world.rounds(2)
    assert again is first
    assert kept, "a check changes what the others see"
    assert world.rounds(1)[2][0].update.round == 1
    for other in (world.again(), replace(world, data=dict(world.data))):
        assert other.rounds(2)[2][0] is not first
    assert len(world.rounds(1, world.clients[:2])[2]) == 2


def test_says_what_fails_and_goes_on(clip):
    world = prepare("promptfl", {}, clip)
    world = replace(world, method=NeedsLocalState(world.method.setting))
    found = dict(run_checks(world))
    assert found.keys() == CHECKS.keys()
    assert found["a client that never took part can predict and join"] == "AssertionError: newcomer"
    assert found["same seed gives the same bytes"] is None


def test_a_file_is_checked_from_the_command_line(tmp_path, capsys):
    good = tmp_path / "mine.py"
    good.write_text("from pfedmoap.methods.zero_shot import ZeroShot as METHOD\n")
    main([str(good), "--method.template", "one {}"])
    assert "keeps the contract" in capsys.readouterr().out
    good.write_text(
        "from dataclasses import dataclass\n"
        "from pfedmoap.methods.zero_shot import ZeroShot\n\n\n"
        "@dataclass(frozen=True)\n"
        "class METHOD(ZeroShot):\n"
        "    features = ('sound',)\n"
    )
    with pytest.raises(SystemExit) as ended:
        main([str(good)])
    assert ended.value.code == 1
    assert "FAIL declares what it needs" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["nobody"], [], ["--method.template", "x"]])
def test_says_that_there_is_no_such_method(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 1
    assert "method" in capsys.readouterr().err
