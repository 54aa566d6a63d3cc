"""Whether a method's privacy analysis covers its class, and the analysis's answer."""

import inspect

from pfedmoap.client.privatizer import HasPrivacyAnalysis, Mode
from pfedmoap.contract.capabilities import (
    CanDecline,
    CanPersonalise,
    HasOnlyGlobalModel,
    IsBoundToClasses,
    NeedsServerData,
)

_OPTIONAL = tuple(
    name
    for kind in (CanDecline, CanPersonalise, HasOnlyGlobalModel, IsBoundToClasses, NeedsServerData)
    for name in vars(kind)
    if not name.startswith("_")
)
"""Steps that the engine takes where a method has them, whether its base has them or not."""


def gap_in_analysis(method: object, mode: Mode) -> str | None:
    """Say why a privacy mode would void the guarantee of a method; ``None`` where it holds.

    `HasPrivacyAnalysis.privacy_gap` is about the class that it is written in. Where a class that
    is derived from that one replaces anything, its uploads may be others, so that nothing that is
    inherited counts: it has to state its own, which may be ``return super().privacy_gap(mode)``.
    Other defaults of options replace nothing.

    Args:
        method: The method.
        mode: The mode.
    """
    if not isinstance(method, HasPrivacyAnalysis):
        return "this method has no analysis under differential privacy"
    replaced = _replaced_since_analysis(type(method))
    if replaced is None:
        return method.privacy_gap(mode)
    analysed, names = replaced
    return (
        f"it replaces {', '.join(f'`{name}`' for name in names)} of {analysed.__name__}, whose "
        "analysis does not cover what it does instead: give it a privacy_gap of its own, which "
        "may call super().privacy_gap(mode) where that still holds"
    )


def _replaced_since_analysis(kind: type) -> tuple[type, list[str]] | None:
    """The class whose analysis it is and what was replaced in it; ``None`` if nothing was."""
    line = kind.__mro__
    at = next(n for n, each in enumerate(line) if "privacy_gap" in vars(each))
    analysed = line[at]
    names = set()
    for name in {name for each in line[:at] for name in vars(each) if not name.startswith("__")}:
        held = [vars(each)[name] for each in line[at:] if name in vars(each)]
        if held and any(_is_step(value) for value in (held[0], inspect.getattr_static(kind, name))):
            names.add(name)
    names |= {name for name in _OPTIONAL if hasattr(kind, name) and not hasattr(analysed, name)}
    return (analysed, sorted(names)) if names else None


def _is_step(value: object) -> bool:
    """Whether a class attribute is code, such as a function or a property, or a mere default."""
    return hasattr(value, "__get__")
