"""Finding methods by name, without importing those that nobody asked for."""

import pytest

from pfedmoap.errors import MethodError
from pfedmoap.methods import registry
from pfedmoap.methods.registry import Methods, method_class


@pytest.fixture
def nothing_imported(monkeypatch):
    importing = registry.import_module

    def folder_alone(name):
        assert name == "pfedmoap.methods", f"{name} was imported"
        return importing(name)

    monkeypatch.setattr(registry, "import_module", folder_alone)


def test_every_file_but_bases_and_finders_is_a_method():
    for name, found in Methods().items():
        assert found.__module__.startswith(f"pfedmoap.methods.{name}")
    assert not {"averaged_prompt", "prompt_set", "external", "registry"} & set(Methods())


@pytest.mark.usefixtures("nothing_imported")
def test_names_are_listed_without_importing_any_method():
    methods = Methods()
    assert {"promptfl", "pfedmoap", "fedsp"} <= set(methods) <= set(methods.names)
    assert "promptfl" in methods
    assert "prompt" not in methods
    assert len(methods) == len(set(methods))
    assert methods.canonical("promptfl") == "promptfl"


@pytest.mark.usefixtures("nothing_imported")
def test_an_unknown_name_is_refused_with_those_there_are():
    there = ", ".join(sorted(Methods()))
    with pytest.raises(MethodError, match=f"^no method 'prompt'; .*; there are: {there}; or give"):
        method_class("prompt")


def test_one_method_is_imported_when_it_is_asked_for(monkeypatch):
    asked = []
    importing = registry.import_module
    monkeypatch.setattr(
        registry, "import_module", lambda name: (asked.append(name), importing(name))[1]
    )
    assert Methods()["promptfl"].__name__ == "PromptFL"
    assert [name for name in asked if name != "pfedmoap.methods"] == ["pfedmoap.methods.promptfl"]


def test_methods_are_no_deeper_than_one_that_extends_another():
    """A base, a method on it, and at most one method that is the other with one step replaced."""
    for name, kind in Methods().items():
        chain = [each.__name__ for each in kind.__mro__ if each is not object]
        assert len(chain) <= 3, f"{name}: {' < '.join(chain)}"
