"""The one place to find a method: of this package, of another one, or in a file."""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from pfedmoap.config.suggestions import none_such
from pfedmoap.contract.method import AnyMethod
from pfedmoap.errors import MethodError
from pfedmoap.methods.external import file_of, from_file, from_package, installed

# Every other module of this folder is a method, and exports its class as METHOD.
_NO_METHODS = frozenset({"averaged_prompt", "external", "made", "prompt_set", "registry"})


class Methods(Mapping[str, type[AnyMethod]]):
    """All methods by name: those of this package are listed, all others are found by asking.

    A method is imported when it is looked up. Listing names and asking whether there is one
    imports nothing.

    Examples:
        >>> Methods()["promptfl"].__name__
        'PromptFL'

    Raises:
        MethodError: A package declares a method of a name that is taken.
    """

    def __init__(self) -> None:
        self._own = _own_names()
        self._installed = installed(self._own)

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (
            name in self._own or name in self._installed or file_of(name) is not None
        )

    def __getitem__(self, name: str) -> type[AnyMethod]:
        if name in self._own:
            found: type[AnyMethod] = import_module(f"pfedmoap.methods.{name}").METHOD
            return found
        if name in self._installed:
            return from_package(name, self._installed[name])
        if (file := file_of(name)) is not None:
            return from_file(*file.located(self._own))
        raise KeyError(name)

    @property
    def names(self) -> tuple[str, ...]:
        """All that can be chosen, but for files."""
        return tuple(sorted({*self._own, *self._installed}))

    def canonical(self, name: str) -> str:
        """The name that a run records: a file's absolute path and digest; others as they are."""
        if (file := file_of(name)) is not None:
            path, digest = file.located(self._own)
            return f"{path}@{digest}"
        return name


def method_class(name: str) -> type[AnyMethod]:
    """Look a method up by name, or by the path of a file that exports ``METHOD``.

    Raises:
        MethodError: There is no such method, and the message lists those there are; or a file or
            package that should hold one does not.
    """
    methods = Methods()
    if name not in methods:
        raise MethodError(
            f"{none_such('method', name, methods.names)}; or give the path of a file, ending in .py"
        )
    return methods[name]


@cache
def _own_names() -> tuple[str, ...]:
    modules = {info.name for info in iter_modules(import_module("pfedmoap.methods").__path__)}
    return tuple(sorted(modules - _NO_METHODS))
