"""A run that trained nothing: all updates were refused, or all clients sat out."""

from collections import Counter
from collections.abc import Sequence

from pfedmoap.errors import RunError
from pfedmoap.runs.log import Record


class NothingTrainedError(RunError):
    """A run has come to its end, and has no results; what it was charged stands."""


def refuse_if_all_refused(records: Sequence[Record]) -> None:
    """Raise an error if every update of a run was refused, or nobody trained in any round.

    Args:
        records: The run's rounds.

    Raises:
        NothingTrainedError: Nothing was trained; the message says why.
    """
    absent = [why for record in records for why in record.get("sat_out", {}).values()]
    if absent and not any(record.get("cohort") for record in records):
        why, times = Counter(absent).most_common(1)[0]
        raise NothingTrainedError(
            f"nobody trained in {len(records)} rounds, so that there are no results: clients sat "
            f"out {len(absent)} times, {times} of them since: {why}. Where a budget is spent, "
            "`pfedmoap ledger` shows on what; a larger --privacy.epsilon would spend more"
        )
    sent = sum(len(record.get("cohort", [])) for record in records)
    reasons = [why for record in records for why in record.get("rejected", {}).values()]
    if not sent or len(reasons) < sent:
        return
    why, times = Counter(reasons).most_common(1)[0]
    raise NothingTrainedError(
        f"the server refused all {sent} updates of {len(records)} rounds, so that nothing was "
        f"trained and there are no results. {times} of them: {why}"
    )
