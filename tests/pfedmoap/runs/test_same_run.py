"""What keeps a command from resuming a run: the message names it, and the way out."""

from pathlib import Path

import pytest

from pfedmoap.errors import RunError
from pfedmoap.runs.same_run import refuse_other_run

OLD = {"method": {"name": "promptfl"}, "training": {"lr": 0.1}}
RUN = Path("runs/a")


def refuse(new, divided=(False, False)):
    refuse_other_run(RUN, (OLD, {}), (new, {}), divided)


def test_the_same_configuration_is_resumed():
    refuse(OLD)


def test_a_changed_option_is_named_with_both_values():
    with pytest.raises(RunError, match=r"training\.lr was 0\.1, is 0\.2$"):
        refuse({**OLD, "training": {"lr": 0.2}})


def test_an_option_of_a_later_version_is_not_taken_for_a_change_of_the_users():
    """Its default need not be what the earlier version did, so that the run is not continued."""
    with pytest.raises(
        RunError, match=r"server is an option that the version .* did not have"
    ) as e:
        refuse({**OLD, "server": {"max_change": None}})
    assert "Finish it with the version that started it" in str(e.value)
    assert "None" not in str(e.value)
