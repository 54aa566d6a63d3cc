"""Methods outside this package: in a user's file, or in another installed package.

A file is named by its path. What a run records is the absolute path with the first digits of the
file's SHA-256, ``/home/me/fedrep.py@1f0c9a2b7d44``, so that a run is never continued or evaluated
with another method than the one that trained it. A package names its methods in the entry-point
group ``pfedmoap.methods``; a run records that name.
"""

import hashlib
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass, is_dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from pfedmoap.contract.method import AnyMethod, Method
from pfedmoap.errors import MethodError

GROUP = "pfedmoap.methods"
_FILE = re.compile(r"(?P<path>.+\.py)(?:@(?P<digest>[0-9a-f]{12}))?")


@dataclass(frozen=True)
class MethodFile:
    """A method's file, as the user named it.

    Attributes:
        path: Absolute path of the file.
        digest: First digits of the SHA-256 that it must have; ``None`` takes it as it is.
    """

    path: Path
    digest: str | None

    def located(self, taken: Collection[str]) -> tuple[Path, str]:
        """Find the file; returns its path and digest.

        Args:
            taken: Names that it must not have, those of this package's methods.

        Raises:
            MethodError: It is not there, has changed, or its name is taken.
        """
        try:
            digest = hashlib.sha256(self.path.read_bytes()).hexdigest()[:12]
        except OSError as error:
            raise MethodError(
                f"the method's file {self.path} cannot be read ({error.strerror}): put it there "
                "again, or write its new place, without @ and what follows, as method.name"
            ) from error
        if self.digest is not None and self.digest != digest:
            raise MethodError(
                f"the method's file {self.path} has changed: it is {digest} now and was "
                f"{self.digest} when the run began, whose state may mean nothing to it. Put the "
                "old file there again, or train anew"
            )
        if self.path.stem in taken:
            raise MethodError(
                f"{self.path.stem!r} is a method of this package: give {self.path} another name"
            )
        return self.path, digest


def file_of(name: str) -> MethodFile | None:
    """Read a name as a method's file, ``PATH.py`` or ``PATH.py@DIGEST``; else ``None``."""
    found = _FILE.fullmatch(name)
    if found is None:
        return None
    return MethodFile(Path(found["path"]).expanduser().absolute(), found["digest"])


@cache
def from_file(path: Path, digest: str) -> type[AnyMethod]:
    """Run a method's file once, whose digest is known, and take its ``METHOD``."""
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
def from_package(name: str, entry: EntryPoint) -> type[AnyMethod]:
    """Import the method that a package declares."""
    try:
        loaded = entry.load()
    except Exception as error:
        raise MethodError(
            f"method {name!r} of {_owner(entry)} cannot be imported from {entry.value}: "
            f"{type(error).__name__}: {error}"
        ) from error
    return _checked(loaded, entry.value)


def installed(taken: Collection[str]) -> dict[str, EntryPoint]:
    """Methods that other packages declare, by name; nothing is imported.

    Args:
        taken: Names that they must not have, those of this package's methods.

    Raises:
        MethodError: A name is taken, or two packages declare it.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in taken:
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


def _checked(found: Any, place: str) -> type[AnyMethod]:  # a module may export anything
    """Raise an error if an object is not a method, before anything is loaded for it."""
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
