"""Methods outside the package: in a file, and of another installed package."""

import json

import pytest

from eval.choices import schema
from pfedmoap.errors import ConfigError, MethodError
from pfedmoap.methods.registry import Methods, method_class

FILE = '''"""PromptFL with a scaled prompt."""

from dataclasses import dataclass

from pfedmoap.methods.averaged_prompt import AveragedPrompt


@dataclass(frozen=True)
class Scaled(AveragedPrompt):
    """The method.

    Attributes:
        factor: What the prompt is multiplied with.
    """

    factor: float = 2.0

    def compose(self, params):
        """Scale the prompt."""
        return self.factor * params["context"]


METHOD = Scaled
'''


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "scaled.py"
    path.write_text(FILE)
    return path


def package(folder, name, declared):
    """Lay out an installed package that declares methods, without installing it."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pfedmoap.methods]\n" + declared)


def test_a_configuration_records_path_and_digest_and_takes_the_files_options(file):
    chosen = schema().resolve({"method": {"name": str(file), "factor": 3.0}})
    recorded = json.loads(json.dumps(chosen.sections))["method"]
    path, _, digest = recorded["name"].partition("@")
    assert path == str(file)
    assert len(digest) == 12
    assert schema().resolve({"method": recorded}).sections == chosen.sections
    method = chosen.schema.choices["method"][recorded["name"]]
    assert (method.__name__, recorded["factor"]) == ("Scaled", 3.0)
    with pytest.raises(ConfigError, match="sigma"):
        schema().resolve({"method": {"name": str(file), "sigma": 3.0}})


def test_a_relative_path_is_recorded_as_an_absolute_one(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    assert Methods().canonical("scaled.py") == Methods().canonical(str(file))


def test_a_changed_or_missing_file_is_refused(file):
    recorded = Methods().canonical(str(file))
    file.write_text(FILE.replace("2.0", "4.0"))
    with pytest.raises(MethodError, match=r"has changed.*Put the old file there again"):
        schema().resolve({"method": {"name": recorded}})
    assert schema().resolve({"method": str(file)}).sections["method"]["factor"] == 4.0
    file.unlink()
    with pytest.raises(MethodError, match=r"cannot be read.*put it there again"):
        schema().resolve({"method": {"name": recorded}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("METHOD = 1", "must export its method's class as METHOD"),
        ("x = 1", "must export its method's class as METHOD"),
        ("class METHOD: pass", r"must be a dataclass\(frozen=True\)"),
        ("import nowhere_to_be_found", "ModuleNotFoundError"),
        (
            "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass METHOD:\n    x: int",
            "lacks setting, trains, features, uploads, init",
        ),
    ],
)
def test_a_file_without_a_method_is_refused(file, text, message):
    file.write_text(text)
    with pytest.raises(MethodError, match=message):
        method_class(str(file))


def test_a_file_named_like_a_method_of_the_package_is_refused(file):
    twin = file.rename(file.with_name("promptfl.py"))
    with pytest.raises(MethodError, match=r"give .* another name"):
        method_class(str(twin))


def test_an_installed_package_brings_methods_by_name(tmp_path, monkeypatch):
    package(tmp_path, "more-methods", "scaled = scaled_method:METHOD\n")
    (tmp_path / "scaled_method.py").write_text(FILE)
    monkeypatch.syspath_prepend(tmp_path)
    assert method_class("scaled").__name__ == "Scaled"
    assert "scaled" in Methods()
    assert "scaled" not in list(Methods())  # it is not imported to be listed
    with pytest.raises(MethodError, match="scaled, zero_shot; or give the path"):
        method_class("unheard_of")


def test_a_package_that_cannot_be_imported_harms_nobody_who_does_not_ask_for_it(
    tmp_path, monkeypatch
):
    package(tmp_path, "more-methods", "broken = nowhere_to_be_found:METHOD\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert method_class("promptfl").__name__ == "PromptFL"
    with pytest.raises(MethodError, match=r"'more-methods' cannot be imported"):
        method_class("broken")


def test_two_methods_of_one_name_are_an_error(tmp_path, monkeypatch):
    package(tmp_path / "one", "twin", "promptfl = twin:METHOD\n")
    monkeypatch.syspath_prepend(tmp_path / "one")
    with pytest.raises(MethodError, match="'twin' declares a method 'promptfl'"):
        method_class("fedprox")
    package(tmp_path / "two", "first", "scaled = a:METHOD\n")
    package(tmp_path / "two", "second", "scaled = b:METHOD\n")
    monkeypatch.undo()
    monkeypatch.syspath_prepend(tmp_path / "two")
    with pytest.raises(MethodError, match="both declare a method 'scaled'"):
        method_class("fedprox")
