"""Where a prompt's class name stands, and whether each class has context vectors of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from pfedmoap.contract.tasks import Setting
from pfedmoap.errors import ConfigError, ShapeError
from pfedmoap.models.clip.clip import PromptEncoder
from pfedmoap.models.clip.tokens import ClassPosition
from pfedmoap.prompts.encoder import training_encoder
from pfedmoap.prompts.initial import check_context, initial_context


@dataclass(frozen=True)
class PromptLayout:
    """The form of a method's prompts (CoOp, arXiv 2109.01134, section 3.2).

    A class-specific prompt is C contexts, one below the other: a matrix (C L, W) like any other to
    servers, pools and proximal terms, with C times the bytes.

    Attributes:
        setting: The task.
        length: Context vectors L.
        words: Words to start from; ``None`` draws at random.
        position: Where the class name stands: behind the context (``end``), between its halves, or
            before it (``front``). Only at the end can classes share the work on the context.
        specific: Whether each class has a context of its own.
    """

    setting: Setting
    length: int
    words: str | None = None
    position: ClassPosition = "end"
    specific: bool = False

    @property
    def rows(self) -> int:
        """Context vectors of a whole prompt: L, or C L."""
        return self.length * (len(self.setting.class_names) if self.specific else 1)

    def check(self, kinds: Sequence[str]) -> None:
        """See `check_context`."""
        check_context(self.setting, kinds, self.length, self.words, self.position)

    def check_rank(self, rank: int) -> None:
        """Refuse a rank that no matrix of a whole prompt's shape has.

        Raises:
            ConfigError: It is larger than both of its sides allow.
        """
        most = min(self.rows, self.setting.backbone.text_width)
        if rank > most:
            raise ConfigError(f"method.rank must be at most {most}, got {rank}")

    def initial(self, seed: int) -> Tensor:
        """Make the prompt that all clients start from, (L, W) or (C L, W) float32.

        Args:
            seed: Seed of the random draw; words are the same for all classes.
        """
        backbone = self.setting.backbone
        if self.words is None:
            return initial_context(backbone, self.rows, seed=seed)
        words = initial_context(backbone, self.length, self.words, seed=seed)
        return words.repeat(self.rows // self.length, 1)

    def encoder(self) -> PromptEncoder:
        """Make the function from prompts (E, L, W) or (E, C L, W) to class features (E, C, D)."""
        plain = training_encoder(self.setting, self.length, self.position, not self.specific)
        return ClassSpecificEncoder(plain, self.length) if self.specific else plain

    def class_bond(self) -> str | None:
        """See `IsBoundToClasses`."""
        if self.specific:
            return "each class has context vectors of its own, and other classes have none"
        return None


class ClassSpecificEncoder(nn.Module):
    """Encode prompts whose classes have contexts of their own.

    Args:
        plain: From contexts (E, C, L, W) to class features (E, C, D).
        length: Context vectors L of a class.
    """

    def __init__(self, plain: PromptEncoder, length: int) -> None:
        super().__init__()
        self._plain = [plain]  # in a list: the frozen model is not part of this module's state
        self._length = length

    def forward(self, contexts: Tensor) -> Tensor:
        """Encode prompts (E, C L, W) to unit-norm class features (E, C, D).

        Raises:
            ShapeError: The rows are not whole contexts.
        """
        if contexts.dim() != 3 or contexts.shape[1] % self._length:
            raise ShapeError(
                f"class-specific prompts have shape {tuple(contexts.shape)}, expected (E, C x "
                f"{self._length}, W)"
            )
        return self._plain[0](contexts.unflatten(1, (-1, self._length)))
