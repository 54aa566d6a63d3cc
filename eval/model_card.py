"""The page that goes with an exported model: what it is, how good, and what it may tell of data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.escaping import for_markdown
from pfedmoap.data.suitability import EMBEDDED
from pfedmoap.exported.folder import HEAD, ONNX, PROGRAM, RECORD, TOWER
from pfedmoap.exported.programs import OPSET
from pfedmoap.exported.record import ModelRecord
from pfedmoap.models.licences import Licence

MOST_NAMED = 200  # classes that the page lists
_NO_PHOTOGRAPHS = (
    "The backbone is the small one of the package, which reads 32 x 32 pixels and knows rendered "
    "scenes and digits: it is no model of photographs."
)
_FIGURES = {
    "accuracy": "accuracy on the client's own test images",
    "macro_f1": "macro-F1 on them",
    "ece": "expected calibration error on them",
    "global_accuracy": "the global model's accuracy on them",
}


@dataclass(frozen=True)
class Card:
    """What the page says.

    Attributes:
        record: The model.
        data: Name of the data set.
        licence: Of the backbone's weights.
        figures: The client's row of the run's table, or empty where it is not told.
        counts: Lines about its images, or none where they are not told.
        privacy: The statement, in paragraphs.
        caution: What has to stand at the top, if anything.
        programs: The files of ONNX and torch.export that are beside it.
    """

    record: ModelRecord
    data: str
    licence: Licence
    figures: Mapping[str, Any]
    counts: Sequence[str]
    privacy: Sequence[str]
    caution: str | None
    programs: Sequence[str]

    def text(self) -> str:
        """The page, as Markdown with the Hugging Face Hub's head."""
        origin, names = self.record.origin, self.record.class_names
        method, backbone = for_markdown(origin.method), for_markdown(origin.backbone)
        shown = ", ".join(for_markdown(name) for name in names[:MOST_NAMED])
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        parts = [
            *self._head(),
            f"# The model of client {origin.client}",
            "",
            *([f"> **{self.caution}**", ""] if self.caution else []),
            f"An image classifier that client {origin.client} of a federation has for itself: "
            f"{len(names)} classes, trained by `{method}` on {for_markdown(self.data)}, after "
            f"round {origin.round}, and written by pfedmoap {origin.pfedmoap}. It is the image "
            f"tower of the frozen backbone `{backbone}` and a head of kind `{self.record.kind}` "
            "with the class features folded in; there is no text tower, and classes cannot be "
            "added.",
            "",
            f"Classes: {shown}{more}.",
            "",
            "## Use",
            "",
            *self._use(),
            "",
            "## Figures",
            "",
            *self._figures(),
            "",
            "## Data",
            "",
            *(self.counts or ["Nothing is told of how many images the client has, or of which."]),
            "",
            "## Privacy",
            "",
            "\n\n".join(self.privacy),
            "",
            "## Licence",
            "",
            f"The image tower holds weights of `{backbone}`, whose licence is "
            f"**{for_markdown(self.licence.name)}** ({self.licence.told_by}).",
            "",
            "## Limits",
            "",
            "It was fitted to one client's images and knows no others: on images of another site "
            "or of other classes it answers, too, and is likely to be wrong. Probabilities are not "
            "calibrated. It has not been approved for any decision about people."
            + (f" {_NO_PHOTOGRAPHS}" if origin.backbone == EMBEDDED else ""),
        ]
        return "\n".join(parts) + "\n"

    def _head(self) -> list[str]:
        return [
            "---",
            f"license: {self.licence.name}",
            "library_name: pfedmoap",
            "pipeline_tag: image-classification",
            "tags:",
            "- federated-learning",
            "- prompt-learning",
            "- clip",
            "---",
            "",
        ]

    def _use(self) -> list[str]:
        size = self.record.preprocessing.size
        lines = [
            "```python",
            "import pfedmoap",
            "",
            'classifier = pfedmoap.PersonalizedClassifier.load("this/folder")',
            'print(classifier.classify(["photo.jpg"])[0].ranking)',
            "```",
            "",
            "or `pfedmoap predict this/folder photo.jpg`, or `pfedmoap serve-model this/folder`. "
            f"`{RECORD}`, `{TOWER}` and `{HEAD}` are all that these read; nothing in them is code.",
        ]
        if ONNX in self.programs:
            lines += [
                "",
                f"`{ONNX}` (opset {OPSET}) takes `pixels`, (batch, 3, {size}, {size}) float32, and "
                "gives `probabilities`, (batch, classes). Pixels are preprocessed as "
                f"`preprocessing` in `{RECORD}` says; class names are there, too, and both are in "
                "the file's metadata.",
            ]
        if PROGRAM in self.programs:
            lines += ["", f"`{PROGRAM}` is the same for `torch.export.load`."]
        return lines

    def _figures(self) -> list[str]:
        rows = [
            f"| {text} | {self.figures[name]:.4f} |"
            for name, text in _FIGURES.items()
            if self.figures.get(name) is not None
        ]
        if not rows:
            return ["None are told: no noise covers results of evaluation, or there are none."]
        return ["| | |", "|---|---:|", *rows, "", "Of the run's last round, from one seed."]
