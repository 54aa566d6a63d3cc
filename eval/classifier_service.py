"""A client's personal model as a service: the bytes of an image in, probabilities out."""

import json

import torch

from pfedmoap.data.images import decode
from pfedmoap.errors import DataError
from pfedmoap.inference import PersonalizedClassifier
from pfedmoap.serving.service import Operation, Proceed, Reply, Service

PATH = "/classify"
MOST_PIXELS = 25_000_000
"""Largest width times height that is decoded for a stranger, in a few seconds."""

FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP")
"""What is decoded for a stranger; JPEG 2000, for one, can take its time."""

SCHEMA = {
    "type": "object",
    "properties": {
        "class": {"type": "string", "description": "the most probable class"},
        "probabilities": {
            "type": "object",
            "description": "by name of the class, the most probable first",
            "additionalProperties": {"type": "number"},
        },
    },
    "required": ["class", "probabilities"],
}


def classifier_service(classifier: PersonalizedClassifier) -> Service:
    """Make the service of one classifier.

    Whose prompts the gate attends to is not told: it says something of other clients' data.

    Args:
        classifier: The client's model.

    Returns:
        The service, with ``POST /classify``.
    """

    def answer(content: bytes, proceed: Proceed) -> Reply:
        image = decode(content, most_pixels=MOST_PIXELS, formats=FORMATS)
        proceed()
        with torch.no_grad():  # a setting of each thread
            ranking = classifier.classify([image])[0].ranking
        found = {"class": ranking[0][0], "probabilities": dict(ranking)}
        return Reply(json.dumps(found, allow_nan=False).encode(), "application/json")

    operation = Operation(
        PATH,
        answer,
        DataError,
        "Classify one image, given as the content of its file.",
        accepts="image/*",
        schema=SCHEMA,
    )
    return Service(
        "pfedmoap personal classifier", "Classifies images with one client's model.", (operation,)
    )
