"""All readers of published data sets by the name that a configuration calls them."""

from collections.abc import Mapping

from pfedmoap.data.published.caltech import Caltech101
from pfedmoap.data.published.cifar import CIFAR10, CIFAR100
from pfedmoap.data.published.coop_sets import (
    SUN397,
    UCF101,
    EuroSAT,
    FGVCAircraft,
    StanfordCars,
)
from pfedmoap.data.published.domain_sets import (
    DomainNet10,
    Office31,
    OfficeCaltech10,
    OfficeHome,
    PACSDomains,
)
from pfedmoap.data.published.huggingface import HuggingFace
from pfedmoap.data.published.imagenet import (
    ImageNet,
    ImageNetA,
    ImageNetR,
    ImageNetSketch,
    ImageNetV2,
)
from pfedmoap.data.published.photographs import DTD, Flowers102, Food101, OxfordPets
from pfedmoap.data.published.tiny_imagenet import TinyImageNet

READERS: Mapping[str, type] = {
    "oxford_pets": OxfordPets,
    "flowers102": Flowers102,
    "food101": Food101,
    "caltech101": Caltech101,
    "dtd": DTD,
    "stanford_cars": StanfordCars,
    "fgvc_aircraft": FGVCAircraft,
    "eurosat": EuroSAT,
    "sun397": SUN397,
    "ucf101": UCF101,
    "imagenet": ImageNet,
    "imagenetv2": ImageNetV2,
    "imagenet_sketch": ImageNetSketch,
    "imagenet_a": ImageNetA,
    "imagenet_r": ImageNetR,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "domainnet": DomainNet10,
    "office_caltech10": OfficeCaltech10,
    "pacs": PACSDomains,
    "office31": Office31,
    "office_home": OfficeHome,
    "tiny_imagenet": TinyImageNet,
    "hf": HuggingFace,
}
