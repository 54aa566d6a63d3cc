"""Pages of the documentation's site that no file of docs/ holds: files of the root, and the API.

A hook of MkDocs (`hooks` of mkdocs.yml). Links are written for readers of the repository; those to
files outside docs/ that the site has are led to its own copy. The reference has a page for each
package, with every public name of its modules, written from the docstrings.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
COPIED = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
AS_FILES = ("LICENSE", "CITATION.cff")


def packages() -> list[str]:
    """The packages that are shipped, as pyproject.toml lists them, in its order."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed: list[str] = settings["tool"]["setuptools"]["packages"]
    return listed


def modules(package: str) -> list[str]:
    """A package and its public modules, by dotted name."""
    folder = ROOT / package.replace(".", "/")
    names = sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("_"))
    return [package, *(f"{package}.{name}" for name in names)]


def reference(package: str) -> str:
    """Markdown of a package's page in the reference; the search finds guides before it."""
    return f"---\nsearch:\n  boost: 0.3\n---\n# `{package}`\n\n" + "\n".join(
        f"::: {name}\n    options:\n      heading_level: 2\n" for name in modules(package)
    )


def from_root(text: str) -> str:
    """A page of the repository's root as one of docs/: its links are led there."""
    return re.sub(r"\]\(docs/", "](", text)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages that come in numbers under their headings: methods, and packages."""
    methods = sorted((ROOT / "docs" / "methods").glob("*.md"), key=lambda page: page.stem)
    more = {
        "Methods": [f"methods/{page.name}" for page in methods if page.stem != "README"],
        "API": [{name: f"api/{name}.md"} for name in packages()],
    }
    for entry in config.nav or []:
        for heading in more.keys() & entry.keys():
            entry[heading].extend(more[heading])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    for name in COPIED:
        text = from_root((ROOT / name).read_text())
        files.append(File.generated(config, name, content=text))
    for name in AS_FILES:
        files.append(File.generated(config, name, content=(ROOT / name).read_bytes()))
    for package in packages():
        files.append(File.generated(config, f"api/{package}.md", content=reference(package)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead links to copied files, which lie one folder above docs/, to their copies."""
    names = "|".join(re.escape(name) for name in (*COPIED, *AS_FILES))
    return re.sub(rf"\]\(\.\./((?:\.\./)*(?:{names}))", r"](\1", markdown)
