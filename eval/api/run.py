"""A run on disk, as an object."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eval.accuracy import ClientScore, Summary, summarise
from eval.api.rows import Rows, row_of
from eval.experiment import ExperimentLoader
from eval.exporting import ExportOptions, export_model
from eval.promise import spent_epsilon
from eval.running import load_outcome
from pfedmoap.inference import PersonalizedClassifier
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.storage.atomic_files import read_json


@dataclass(frozen=True)
class Evaluation:
    """A test of every client after a run's last round.

    Attributes:
        round: The round.
        scores: One score for each client, in the order of ids.
    """

    round: int
    scores: tuple[ClientScore, ...]

    @property
    def summary(self) -> Summary:
        """Figures over all clients that may take part."""
        return summarise(self.scores)

    @property
    def table(self) -> Rows:
        """The scores, one row a client."""
        return Rows(asdict(score) for score in self.scores)


@dataclass(frozen=True)
class Run:
    """A run on disk. It is read when it is asked, so that a run that is going on can be watched.

    Attributes:
        path: Its folder.
        loader: Keeps the backbone and data of the last evaluation for the next one.
    """

    path: Path
    loader: ExperimentLoader = field(
        default_factory=lambda: ExperimentLoader(progress=False), repr=False, compare=False
    )

    @property
    def config(self) -> Mapping[str, Any]:
        """Its resolved configuration, by section.

        Raises:
            RunError: It is missing or damaged.
        """
        return RunDirectory(self.path).config

    @property
    def round(self) -> int:
        """Its last complete round; 0 before the first."""
        return RunDirectory(self.path).round

    @property
    def clients(self) -> tuple[int, ...]:
        """Ids of its clients."""
        return tuple(entry["client"] for entry in RunDirectory(self.path).task["clients"])

    @property
    def metrics(self) -> Rows:
        """One row a round; see `eval.api.rows.row_of`, and ``.frame`` for a pandas frame.

        Raises:
            RunError: The metrics are damaged.
        """
        return Rows(row_of(record) for record in RunDirectory(self.path).metrics())

    @property
    def privacy(self) -> Mapping[str, Any]:
        """The statement of its guarantee, ``privacy.json``; empty where there is none.

        Raises:
            RunError: It is missing or damaged.
        """
        statement: Mapping[str, Any] = read_json(RunDirectory(self.path).whole("privacy.json"))
        return statement

    @property
    def epsilon(self) -> Mapping[int, float]:
        """What each client has spent of its privacy budget; see `eval.promise.spent_epsilon`.

        Raises:
            PFedMoAPError: The metrics or the ledgers are damaged.
        """
        return {
            int(client): spent for client, spent in spent_epsilon(RunDirectory(self.path)).items()
        }

    def evaluate(self, root: str | Path | None = None) -> Evaluation:
        """Test every client, as after the last round.

        Args:
            root: Where the data are, if they have moved.

        Returns:
            The scores.

        Raises:
            PFedMoAPError: The run is damaged or has no complete round, or its data are not there or
                changed so that images that it was trained on would be tested on.
        """
        place = None if root is None else str(root)
        experiment, now = load_outcome(RunDirectory(self.path), self.loader, place)
        return Evaluation(now.round, experiment.test(now))

    def client(self, client: int, device: str = "auto") -> PersonalizedClassifier:
        """Load one client's personal model; the data are not needed.

        Args:
            client: Which client.
            device: Where to run; ``auto`` takes CUDA where present.

        Returns:
            The model.

        Raises:
            RunError: The run is damaged, not complete, or has no such client.
        """
        return PersonalizedClassifier.load(self.path, client, device)

    def export(
        self,
        client: int,
        out: str | Path,
        *,
        onnx: bool = False,
        torch_export: bool = False,
        counts: bool = False,
        metrics: bool | None = None,
        licence: str | None = None,
    ) -> Path:
        """Write one client's model into a folder that needs neither the run nor a text tower.

        Args:
            client: Which client.
            out: The folder, absent or empty.
            onnx: Also write ``model.onnx``.
            torch_export: Also write ``model.pt2``.
            counts: Tell in the model card how many images of which class the client has.
            metrics: Tell there how good the model is; ``None`` tells it unless the run is private.
            licence: Licence of the backbone's weights; ``None`` names what is known of them.

        Returns:
            The folder.

        Raises:
            PFedMoAPError: The run has no such client, its method's models cannot be exported, the
                folder holds something, or ONNX is asked for and its packages are missing.
        """
        options = ExportOptions(onnx, torch_export, counts, metrics, licence)
        return export_model(self.path, client, out, options).folder


def load(run: str | Path) -> Run:
    """Open a run that is on disk.

    Args:
        run: Its folder.

    Returns:
        The run.

    Raises:
        RunError: There is no run, or it is damaged.
    """
    found = Run(Path(run))
    RunDirectory(found.path).config  # noqa: B018  # read here, so that a wrong path is told here
    return found
