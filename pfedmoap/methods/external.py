"""Methods that are not in this package: in a file of the user's, or in another installed package.

A file is named by its path. What a run records is the absolute path with the first digits of the
file's SHA-256, ``/home/me/fedrep.py@1f0c9a2b7d44``, so that a run is never continued or evaluated
with another method than the one that trained it. A package names its methods in the entry-point
group ``pfedmoap.methods``; a run records that name.
"""

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from pfedmoap.contract.method import AnyMethod, Method
from pfedmoap.errors import MethodError
from pfedmoap.methods.registry import method_classes

GROUP = "pfedmoap.methods"
_FILE = re.compile(r"(?P<path>.+\.py)(?:@(?P<digest>[0-9a-f]{12}))?")


class MethodChoices(Mapping[str, type[AnyMethod]]):
    """All methods by name: those of this package are listed, all others are found by asking.

    Nothing of another package is imported, and no file is run, before it is asked for.

    Raises:
        MethodError: A package declares a method of a name that is taken.
    """

    def __init__(self) -> None:
        self._known = method_classes()
        self._installed = _installed(self._known)

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (
            name in self._known or name in self._installed or _FILE.fullmatch(name) is not None
        )

    def __getitem__(self, name: str) -> type[AnyMethod]:
        if name in self._known:
            return self._known[name]
        if name in self._installed:
            return _from_package(name, self._installed[name])
        if _FILE.fullmatch(name):
            return _from_file(*_located(name))
        raise KeyError(name)

    @property
    def names(self) -> tuple[str, ...]:
        """All that can be chosen, but for files."""
        return tuple(sorted({*self._known, *self._installed}))

    def canonical(self, name: str) -> str:
        """The name that a run records: a file's absolute path and digest; others as they are."""
        if _FILE.fullmatch(name):
            path, digest = _located(name)
            return f"{path}@{digest}"
        return name


def find_method(name: str) -> type[AnyMethod]:
    """Look a method up by name, or by the path of a file that exports ``METHOD``.

    Raises:
        MethodError: There is no such method, and the message lists those there are; or a file or
            package that should hold one does not.
    """
    choices = MethodChoices()
    if name not in choices:
        raise MethodError(
            f"no method {name!r}; there are: {', '.join(choices.names)}; or give the path of a "
            "file, ending in .py"
        )
    return choices[name]


def _located(name: str) -> tuple[Path, str]:
    """Find a method's file, absolute, and its digest, which must be the one that the name has."""
    found = _FILE.fullmatch(name)
    if found is None:
        raise MethodError(f"{name!r} is not the path of a Python file")
    path, wanted = Path(found["path"]).expanduser().absolute(), found["digest"]
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    except OSError as error:
        raise MethodError(
            f"the method's file {path} cannot be read ({error.strerror}): put it there again, or "
            "write its new place, without @ and what follows, as method.name"
        ) from error
    if wanted is not None and wanted != digest:
        raise MethodError(
            f"the method's file {path} has changed: it is {digest} now and was {wanted} when the "
            "run began, whose state may mean nothing to it. Put the old file there again, or train "
            "anew"
        )
    if path.stem in method_classes():
        raise MethodError(f"{path.stem!r} is a method of this package: give {path} another name")
    return path, digest


@cache
def _from_file(path: Path, digest: str) -> type[AnyMethod]:
    name = f"_pfedmoap_method_{path.stem}_{digest}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise MethodError(f"{path} cannot be imported as a Python module")
    module = module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look their annotations up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise MethodError(
            f"the method's file {path} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return _checked(getattr(module, "METHOD", None), str(path))


@cache
def _from_package(name: str, entry: EntryPoint) -> type[AnyMethod]:
    try:
        loaded = entry.load()
    except Exception as error:
        raise MethodError(
            f"method {name!r} of {_owner(entry)} cannot be imported from {entry.value}: "
            f"{type(error).__name__}: {error}"
        ) from error
    return _checked(loaded, entry.value)


def _installed(known: Mapping[str, type[AnyMethod]]) -> dict[str, EntryPoint]:
    """Methods that other packages declare; each has a name of its own."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in known:
            raise MethodError(
                f"{_owner(entry)} declares a method {entry.name!r}, and there is one of that name "
                "in pfedmoap: rename its entry point, or uninstall it"
            )
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise MethodError(
                f"{_owner(other)} and {_owner(entry)} both declare a method {entry.name!r}: "
                "uninstall one of them"
            )
    return found


def _owner(entry: EntryPoint) -> str:
    return "a package" if entry.dist is None else f"the package {entry.dist.name!r}"


def _checked(found: Any, place: str) -> type[AnyMethod]:  # whatever somebody's module exports
    """Refuse what is no method, before anything is loaded for it."""
    if not isinstance(found, type):
        raise MethodError(f"{place} must export its method's class as METHOD, got {found!r}")
    kind: Any = found
    if not is_dataclass(found) or not kind.__dataclass_params__.frozen:
        raise MethodError(f"METHOD of {place} must be a dataclass(frozen=True)")
    given = {*dir(found), *kind.__dataclass_fields__}
    missing = [name for name in vars(Method) if not name.startswith("_") and name not in given]
    if missing:
        raise MethodError(
            f"METHOD of {place} lacks {', '.join(missing)}; see pfedmoap.contract.method"
        )
    method: type[AnyMethod] = kind
    return method
