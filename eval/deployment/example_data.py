"""Folders of images for trying a federation on one machine: some digits, or a tree shared out."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pfedmoap.data.digits import Digits
from pfedmoap.data.folder import human_name
from pfedmoap.data.images import printable
from pfedmoap.data.tree import scan
from pfedmoap.engine.flower.members import check_name
from pfedmoap.errors import DataError


def write_digits(folder: Path, sites: list[str], each: int = 12) -> Path:
    """Write some digits for every site, different ones for each, as ``folder/SITE/class/*.png``.

    Args:
        folder: Where they go; ``classes.txt`` there lists the classes.
        sites: Names of the sites.
        each: Images of each class for a site.

    Returns:
        The list of classes.
    """
    dataset = Digits().read()
    for label, name in enumerate(dataset.class_names):
        images = np.flatnonzero(dataset.labels == label)
        for number, site in enumerate(sites):
            place = folder / site / name
            place.mkdir(parents=True, exist_ok=True)
            for image in images[number * each : (number + 1) * each].tolist():
                dataset.load(image).save(place / f"{image}.png")
    return _listed(folder, sites, dataset.class_names)


def share_out(root: Path, folder: Path, sites: Sequence[str], per_domain: int) -> Path:
    """Copy the images of a tree into folders of sites, each image into one of them.

    Of each class a site gets every n-th image, in the order of their names. Sites of a tree of
    domains have images of one domain each.

    Args:
        root: ``root/domain/class/*``, or ``root/class/*``.
        folder: Where they go, as ``folder/SITE/class/*``; ``classes.txt`` there lists the classes
            and ``sites.txt`` the sites.
        sites: Names of the sites of a tree without domains.
        per_domain: How many sites each domain is divided into; they are named ``DOMAIN-1`` and on.

    Returns:
        The list of classes.

    Raises:
        DataError: The tree has another form, or a site would have no image.
    """
    files = scan(root, "auto")
    domains = sorted({file.domain for file in files if file.domain is not None})
    if not domains and not sites:
        raise DataError(f"{printable(root)} has no domains: name its sites with --sites a,b,c")
    of: Mapping[str | None, Sequence[str]] = {
        domain: [f"{_site_name(domain)}-{number + 1}" for number in range(per_domain)]
        for domain in domains
    } or {None: sites}
    classes = sorted({file.class_folder for file in files})
    dealt: dict[tuple[str | None, str], int] = {}
    filled: set[str] = set()
    for file in files:
        kind = (file.domain, file.class_folder)
        turn = dealt.get(kind, classes.index(file.class_folder))  # not all begin at one site
        dealt[kind] = turn + 1
        names = of[file.domain]
        site = names[turn % len(names)]
        filled.add(site)
        place = folder / check_name(site) / file.class_folder
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / file.path, place / Path(file.path).name)
    named = [site for names in of.values() for site in names]
    if lacking := sorted(set(named) - filled):
        raise DataError(
            f"{printable(root)} has {len(files)} images, too few for {len(named)} sites: "
            f"{', '.join(lacking)} would have none"
        )
    return _listed(folder, named, [human_name(name) for name in classes])


def _site_name(domain: str) -> str:
    """A domain's folder as the beginning of a site's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", domain).strip("-._") or "site"


def _listed(folder: Path, sites: Sequence[str], classes: Sequence[str]) -> Path:
    listed = folder / "classes.txt"
    listed.write_text("\n".join(classes) + "\n")
    (folder / "sites.txt").write_text("\n".join(sites) + "\n")
    return listed
