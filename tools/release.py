"""Build what a release uploads: a source archive and a wheel, checked for the package index.

The index shows README.md alone, so that its links must be absolute there; which repository they
lead to is known only where a release is made. A copy of the tracked files gets these links and the
project's addresses, and is built; the checkout stays as it is.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)\s]+)\)")


def absolute(text: str, repository: str, version: str) -> str:
    """Lead a page's links to the files of one version in a repository.

    Args:
        text: Markdown of a page at the repository's root.
        repository: Its address, as GitHub and its like have it.
        version: The version, whose tag is ``v`` and this.

    Returns:
        The page; pictures lead to the files themselves, other links to the pages that show them.

    Examples:
        >>> absolute("[a](docs/a.md)", "https://example.org/x", "1.0")
        '[a](https://example.org/x/blob/v1.0/docs/a.md)'
    """

    def lead(found: re.Match[str]) -> str:
        picture, words, place = found.groups()
        kind = "raw" if picture else "blob"
        return f"{picture}[{words}]({repository}/{kind}/v{version}/{place})"

    return LINK.sub(lead, text)


def with_addresses(project: str, repository: str) -> str:
    """Add the addresses that the index links to, beside those that pyproject.toml has."""
    addresses = {
        "Source": repository,
        "Documentation": f"{repository}/blob/main/docs/README.md",
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }
    lines = "".join(f'{name} = "{address}"\n' for name, address in addresses.items())
    return project.replace("[project.urls]\n", f"[project.urls]\n{lines}", 1)


def faults(root: Path, version: str) -> list[str]:
    """What keeps a checkout from being released as a version, in words."""
    found = []
    if not re.search(rf"^## \[?{re.escape(version)}\]? - \d{{4}}-\d\d-\d\d$", changes(root), re.M):
        found.append(f"CHANGELOG.md has no heading '## {version} - YYYY-MM-DD'")
    if f"version: {version}\n" not in (root / "CITATION.cff").read_text():
        found.append(f"CITATION.cff does not say version {version}")
    if f'__version__ = "{version}"' not in (root / "pfedmoap" / "__init__.py").read_text():
        found.append(f"pfedmoap/__init__.py does not say version {version}")
    return found


def changes(root: Path) -> str:
    """The list of changes."""
    return (root / "CHANGELOG.md").read_text()


def copy_tracked(root: Path, to: Path) -> None:
    """Copy the files that Git tracks, as they are in the checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, to / name)


def build(root: Path, repository: str, out: Path) -> list[Path]:
    """Build and check both files.

    Args:
        root: The checkout.
        repository: Where it lies for readers.
        out: Where the files go; older ones of any version are removed.

    Returns:
        The source archive and the wheel, which was built from the archive.

    Raises:
        SystemExit: The checkout is not one version throughout.
        subprocess.CalledProcessError: Building or checking failed.
    """
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    if missing := faults(root, version):
        raise SystemExit("not ready for a release:\n  " + "\n  ".join(missing))
    out.mkdir(parents=True, exist_ok=True)
    for old in [*out.glob("pfedmoap-*.whl"), *out.glob("pfedmoap-*.tar.gz")]:
        old.unlink()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "source"
        copy_tracked(root, copy)
        readme, project = copy / "README.md", copy / "pyproject.toml"
        readme.write_text(absolute(readme.read_text(), repository, version))
        project.write_text(with_addresses(project.read_text(), repository))
        options = ["--no-isolation", "--outdir", str(out.resolve())]
        subprocess.run(
            [sys.executable, "-m", "build", *options, str(copy)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    made = sorted(out.glob("pfedmoap-*"))
    check = [sys.executable, "-m", "twine", "check", "--strict", *map(str, made)]
    subprocess.run(check, check=True)
    return made


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--repository", required=True, help="address that links lead to")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the files")
    given = parser.parse_args()
    build(ROOT, given.repository.rstrip("/"), given.out)


if __name__ == "__main__":
    main()
