"""Looking methods up by name."""

import importlib
import pkgutil

from pfedmoap.contract.method import AnyMethod
from pfedmoap.errors import MethodError


def method_classes() -> dict[str, type[AnyMethod]]:
    """Find every method: each file of ``pfedmoap/methods/`` exports one class as ``METHOD``.

    Returns:
        Classes by name; the name is the file's.
    """
    package = importlib.import_module("pfedmoap.methods")
    found = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"pfedmoap.methods.{info.name}")
        if hasattr(module, "METHOD"):
            found[info.name] = module.METHOD
    return dict(sorted(found.items()))


def method_class(name: str) -> type[AnyMethod]:
    """Look a method up by name.

    Raises:
        MethodError: There is no such method; the message lists those there are.
    """
    found = method_classes()
    if name not in found:
        raise MethodError(f"no method {name!r}; there are: {', '.join(found)}")
    return found[name]
