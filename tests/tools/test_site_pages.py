"""The pages of the site that no file holds."""

import importlib

import pytest

from tests.helpers.places import ROOT

mkdocs_config = pytest.importorskip("mkdocs.config")
pages = pytest.importorskip("tools.site_pages")


def test_every_module_is_in_the_reference_and_can_be_imported():
    listed = [name for package in pages.packages() for name in pages.modules(package)]
    assert len(listed) == len(set(listed)) > 100
    for name in ("pfedmoap", "pfedmoap.contract.method", "eval.api.run", "privacy.options"):
        assert f"::: {name}\n" in "".join(pages.reference(package) for package in pages.packages())
        importlib.import_module(name)


def test_links_of_the_root_lead_into_docs():
    assert pages.from_root("[a](docs/x.md) [b](LICENSE)") == "[a](x.md) [b](LICENSE)"


def test_the_search_works_from_a_folder_with_nothing_from_the_network():
    settings = mkdocs_config.load_config(str(ROOT / "mkdocs.yml"))
    [shim] = settings.extra["polyfills"]
    assert "iframe-worker" in shim  # else the plugin takes one from elsewhere
    assert "offline" in " ".join(settings.plugins)
    for name in (shim, *settings.extra_css):
        assert "//" not in name
        assert "http" not in (ROOT / "docs" / name).read_text()
    assert settings.theme["font"] is False
