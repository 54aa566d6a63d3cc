"""Values of options that a choice recommends, e.g. the step size that a method's paper trains with.

A class of a choice, such as a method, may declare them as a class attribute::

    recommended: ClassVar[Recommended] = {"training": {"learning_rate": 0.001}}

What is given, in a file or on the command line, comes first; then what the choice recommends; then
the default of the option. A resolved configuration shows the values themselves.
"""

from collections.abc import Iterable, Mapping
from typing import Any

Recommended = Mapping[str, Mapping[str, Any]]
"""Values by section and option, as JSON."""

_IN_PLACE_OF = {("training", "local_steps"): ("training", "epochs")}
"""Options that say another way what a second one says: who gives that one wants its way."""


def with_recommended(
    config: Mapping[str, Any],
    choices: Mapping[str, Mapping[str, type]],
    names: Mapping[str, str],
    given: Iterable[tuple[str, str]],
) -> dict[str, Any]:
    """Fill in what the selected choices recommend, where nothing is given.

    Args:
        config: Options by section, without defaults.
        choices: Classes by choice, by section.
        names: The selected choice of each section.
        given: Sections and options that were given, in ``config`` or elsewhere.

    Returns:
        Options by section.
    """
    known, filled = set(given), dict(config)
    for section, name in names.items():
        kinds = choices[section]
        wanted: Recommended = getattr(kinds[name], "recommended", {}) if name in kinds else {}
        for target, values in wanted.items():
            chosen = {
                option: value
                for option, value in values.items()
                if not {(target, option), _IN_PLACE_OF.get((target, option))} & known
            }
            filled[target] = {**chosen, **filled.get(target, {})}
    return filled
