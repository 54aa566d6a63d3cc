"""Under which licence a backbone's weights are, as far as their names tell."""

from dataclasses import dataclass

from pfedmoap.models.loading import BackboneOptions

_EMBEDDED = "apache-2.0"
_BY_TAG = {
    "openai": ("mit", "https://github.com/openai/CLIP"),
    "laion": ("mit", "https://huggingface.co/laion"),
    "datacompdr": ("apple-amlr", "https://github.com/apple/ml-mobileclip"),
    "datacomp_": ("mit", "https://huggingface.co/laion"),
    "commonpool": ("mit", "https://huggingface.co/laion"),
    "webli": ("apache-2.0", "https://github.com/google-research/big_vision"),
    "metaclip": ("cc-by-nc-4.0", "https://github.com/facebookresearch/MetaCLIP"),
    "dfn": ("apple-amlr", "https://github.com/apple/ml-mobileclip"),
}
"""By the beginning of open_clip's tag, the first that fits: what its source states, and where."""

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Licence:
    """A licence of weights.

    Attributes:
        name: Its name, as the Hugging Face Hub writes it; ``unknown`` where nothing tells.
        told_by: Who says so, in words.
    """

    name: str
    told_by: str


def licence_of(options: BackboneOptions, stated: str | None = None) -> Licence:
    """Name the licence of a backbone's weights.

    Args:
        options: The backbone.
        stated: What the user says, which counts.

    Example:
        >>> licence_of(BackboneOptions("ViT-B-16", "openai")).name
        'mit'
    """
    if stated is not None:
        return Licence(stated, "as stated by who exported the model")
    if options.model == "embedded":
        return Licence(_EMBEDDED, "that of pfedmoap, which these weights come with")
    tag = options.pretrained or ""
    if tag == "random":
        return Licence("other", "none: the weights are random")
    if ":" not in options.model and "/" not in tag:
        for beginning, (name, source) in _BY_TAG.items():
            if tag.startswith(beginning):
                return Licence(name, f"as its source states: {source}")
    return Licence(
        UNKNOWN,
        "not known to pfedmoap: look at where the weights come from, and do not pass the model on "
        "before",
    )
