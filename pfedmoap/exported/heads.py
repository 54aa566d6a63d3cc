"""All kinds of heads by name, and the head of a folded model."""

from collections.abc import Callable, Mapping

from pfedmoap.contract.folding import Folded
from pfedmoap.errors import BackboneError, RunError
from pfedmoap.exported.expert_heads import EvidenceHead, MixtureHead
from pfedmoap.exported.head import Head
from pfedmoap.exported.prompt_heads import AdapterHead, CosineHead, TransportHead
from pfedmoap.exported.set_heads import TextSetHead, VisualSetHead
from pfedmoap.models.clip.image_tower import ImageTower

HEADS: Mapping[str, Callable[[Folded, ImageTower, int], Head]] = {
    "cosine": CosineHead,
    "mixture": MixtureHead,
    "evidence": EvidenceHead,
    "adapter": AdapterHead,
    "transport": TransportHead,
    "text_set": TextSetHead,
    "visual_set": VisualSetHead,
}


def make_head(folded: Folded, tower: ImageTower, classes: int) -> Head:
    """Make the head of a folded model.

    Args:
        folded: The model behind the tower.
        tower: The tower.
        classes: Number C of classes.

    Returns:
        The head, on the tower's device.

    Raises:
        RunError: Its kind is unknown, or an option or array is wrong.
        BackboneError: The tower lacks a kind of feature.
    """
    if folded.kind not in HEADS:
        raise RunError(
            f"the model has a head of kind {folded.kind!r}, which this version of pfedmoap does "
            f"not know ({', '.join(HEADS)}); use the version that wrote it, or a newer one"
        )
    try:
        head = HEADS[folded.kind](folded, tower, classes)
    except BackboneError:
        raise
    except (ValueError, RuntimeError, TypeError) as error:
        raise RunError(f"the model's head is damaged: {error}") from error
    return head.to(tower.device).eval().requires_grad_(False)
