"""Folders of images for trying a federation on one machine: scikit-learn's digits, shared out."""

from pathlib import Path

import numpy as np

from pfedmoap.data.digits import Digits


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
    listed = folder / "classes.txt"
    listed.write_text("\n".join(dataset.class_names) + "\n")
    return listed
