"""Class lists and folder names of the domain sets, and finding their images in a tree.

The released code of this field takes DomainNet's and Office's class names from an unordered set, so
that its text class k is a random class; its figures on them are at chance. Here label k is the k-th
name of a list, and every image gets its label from the name of its own folder.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pfedmoap.data.images import has_image_suffix
from pfedmoap.data.published.files import ListedImage
from pfedmoap.errors import DataError


def _same(text: str) -> dict[str, tuple[str, ...]]:
    """Names whose folder is the name with underscores for the spaces."""
    return {
        name: (name.replace(" ", "_"),) for name in text.strip().replace("\n", ", ").split(", ")
    }


@dataclass(frozen=True)
class DomainTree:
    """A set in a tree ``root/domain/class/image``; ``images`` may stand between the two.

    Attributes:
        name: Its short name.
        domains: Accepted folder names by domain, in the order of the domains' numbers.
        classes: Accepted folder names by class, in label order. Other classes are not used.
        source: Where it comes from, for messages.
    """

    name: str
    domains: Mapping[str, tuple[str, ...]]
    classes: Mapping[str, tuple[str, ...]]
    source: str

    def remedy(self, root: Path) -> str:
        """What to do if data are missing."""
        first = next(iter(self.domains.values()))[0]
        return (
            f"Get {self.source} and unpack it so that its domains are the folders "
            f"{', '.join(self.domains)} below {root}, such as {root / first}/<class>/<image>"
        )

    def images(self, root: Path) -> list[ListedImage]:
        """List the images of its classes in all domains, sorted by domain, class and name.

        Raises:
            DataError: A domain, or a class of a domain, is missing or there twice.
        """
        found: list[ListedImage] = []
        for number, domain in enumerate(self.domains):
            folder = self.domain_folder(root, domain)
            for label, name in enumerate(self.classes):
                place = self._one(folder, self.classes[name], f"class {name!r}", root)
                files = sorted(path.relative_to(root).as_posix() for path in _images(place))
                if not files:
                    raise DataError(f"{place} holds no images. {self.remedy(root)}")
                found += [ListedImage(file, label, False, number) for file in files]
        return found

    def domain_folder(self, root: Path, domain: str) -> Path:
        """The folder with the class folders of one domain."""
        if not root.is_dir():
            raise DataError(f"there is no folder {root}. {self.remedy(root)}")
        folder = self._one(root, self.domains[domain], f"domain {domain!r}", root)
        return folder / "images" if (folder / "images").is_dir() else folder

    def _one(self, folder: Path, accepted: tuple[str, ...], what: str, root: Path) -> Path:
        wanted = {name.lower() for name in accepted}
        found = [path for path in sorted(folder.iterdir()) if path.name.lower() in wanted]
        if not found:
            raise DataError(
                f"{folder} has no folder {' or '.join(accepted)} for {what}. {self.remedy(root)}"
            )
        if len(found) > 1:
            both = " and ".join(path.name for path in found)
            raise DataError(f"{folder} has {both} for the one {what}: keep only one of them")
        return found[0]


def _images(folder: Path) -> Iterator[Path]:
    return (
        path
        for path in folder.iterdir()
        if has_image_suffix(path.name) and not path.name.startswith(".")
    )


DOMAINNET = DomainTree(
    "domainnet",
    {name: (name,) for name in ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")},
    _same(
        "bird, feather, headphones, ice cream, teapot, tiger, whale, windmill, wine glass, zebra"
    ),
    "DomainNet (the cleaned version: six archives and their _train.txt and _test.txt lists) from "
    "https://ai.bu.edu/M3SDA/",
)

OFFICE_CALTECH10 = DomainTree(
    "office_caltech10",
    {"amazon": ("amazon",), "caltech": ("caltech", "caltech10"), "dslr": ("dslr",)}
    | {"webcam": ("webcam",)},
    {"backpack": ("back_pack", "backpack")}
    | _same("bike, calculator, headphones, keyboard")
    | {"laptop": ("laptop_computer", "laptop")}
    | _same("monitor, mouse, mug, projector"),
    "the Office-Caltech10 images (Gong et al., CVPR 2012), for example from "
    "https://github.com/redhat12345/OfficeCaltechDomainAdaptation,",
)

PACS = DomainTree(
    "pacs",
    {"art painting": ("art_painting",)}
    | {name: (name,) for name in ("cartoon", "photo", "sketch")},
    _same("dog, elephant, giraffe, guitar, horse, house, person"),
    "PACS (Li et al., ICCV 2017) from https://dali-dl.github.io/project_iccv2017.html",
)

OFFICE31 = DomainTree(
    "office31",
    {name: (name,) for name in ("amazon", "dslr", "webcam")},
    {"backpack": ("back_pack",)}
    | _same(
        "bike, bike helmet, bookcase, bottle, calculator, desk chair, desk lamp, desktop computer\n"
        "file cabinet, headphones, keyboard, laptop computer, letter tray, mobile phone, monitor\n"
        "mouse, mug, paper notebook, pen, phone, printer, projector"
    )
    | {"hole punch": ("punchers",)}
    | _same("ring binder, ruler, scissors, speaker, stapler, tape dispenser, trash can"),
    "Office-31 (Saenko et al., ECCV 2010) from "
    "https://faculty.cc.gatech.edu/~judy/domainadapt/#datasets_code",
)

OFFICE_HOME = DomainTree(
    "office_home",
    {"art": ("Art",), "clipart": ("Clipart",), "product": ("Product",)}
    | {"real world": ("Real World", "Real_World", "RealWorld")},
    _same(
        "alarm clock, backpack, batteries, bed, bike, bottle, bucket, calculator, calendar\n"
        "candles, chair, clipboards, computer, couch, curtains, desk lamp, drill, eraser\n"
        "exit sign, fan, file cabinet"
    )
    | {"flip-flops": ("Flipflops",)}
    | _same(
        "flowers, folder, fork, glasses, hammer, helmet, kettle, keyboard, knives, lamp shade\n"
        "laptop, marker, monitor, mop, mouse, mug, notebook, oven, pan, paper clip, pen, pencil"
    )
    | {"post-it notes": ("Postit_Notes",)}
    | _same(
        "printer, push pin, radio, refrigerator, ruler, scissors, screwdriver, shelf, sink\n"
        "sneakers, soda, speaker, spoon, table, telephone, toothbrush, toys, trash can, tv, webcam"
    ),
    "Office-Home (Venkateswara et al., CVPR 2017) from "
    "https://www.hemanthdv.org/officeHomeDataset.html",
)
