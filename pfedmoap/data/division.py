"""A fixed, stratified train/test division for data sets without one."""

import numpy as np

from pfedmoap.data.dataset import BoolArray, IntArray
from pfedmoap.errors import ConfigError
from pfedmoap.seeding import numpy_generator


def strata_of(labels: IntArray, domains: IntArray | None) -> IntArray:
    """Number every (domain, class) pair, so that equal numbers mean alike images.

    Args:
        labels: Class of each image, (n,).
        domains: Domain of each image, (n,), or ``None`` where there are none.

    Returns:
        Stratum of each image, (n,): the label itself where there are no domains.
    """
    if domains is None:
        return labels
    return domains * (int(labels.max()) + 1) + labels


def check_test_fraction(test_fraction: float) -> None:
    """Refuse a fraction that leaves nothing to train or to test on.

    Raises:
        ConfigError: It is not strictly between 0 and 1.
    """
    if not 0.0 < test_fraction < 1.0:
        raise ConfigError(f"test_fraction is {test_fraction}, expected strictly between 0 and 1")


def stratified_test_mask(strata: IntArray, test_fraction: float, seed: int) -> BoolArray:
    """Draw the test division: the same fraction of every stratum.

    A stratum of two images or more gets at least one image on each side; a single image trains.

    Args:
        strata: Stratum of each image, (n,).
        test_fraction: Part of each stratum that is held out, strictly between 0 and 1.
        seed: Seed of the draw; it is independent of the partition and few-shot seeds.

    Returns:
        Whether each image is a test image, (n,).

    Raises:
        ConfigError: If the fraction is not strictly between 0 and 1.
    """
    check_test_fraction(test_fraction)
    is_test = np.zeros(len(strata), dtype=np.bool_)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        count = min(max(round(test_fraction * len(members)), 1), len(members) - 1)
        rng = numpy_generator(seed, "test division", int(stratum))
        is_test[rng.permutation(members)[:count]] = True
    return is_test
