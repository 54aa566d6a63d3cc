"""A run that trained nothing: the server refused every update of every round."""

from collections import Counter
from collections.abc import Sequence

from pfedmoap.errors import RunError
from pfedmoap.runs.log import Record


def refuse_if_all_refused(records: Sequence[Record]) -> None:
    """Raise an error if every update of a run was refused.

    Args:
        records: The run's rounds.

    Raises:
        RunError: Every update of every round was refused; the message says why.
    """
    sent = sum(len(record.get("cohort", [])) for record in records)
    reasons = [why for record in records for why in record.get("rejected", {}).values()]
    if not sent or len(reasons) < sent:
        return
    why, times = Counter(reasons).most_common(1)[0]
    raise RunError(
        f"the server refused all {sent} updates of {len(records)} rounds, so that nothing was "
        f"trained and there are no results. {times} of them: {why}"
    )
