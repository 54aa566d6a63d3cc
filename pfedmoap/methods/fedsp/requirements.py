"""What FedSP needs: privacy modes that cover its prefix, and examples on the server."""

from typing import NoReturn

from pfedmoap.client.privatizer import Mode
from pfedmoap.contract.folding import refuse_to_fold
from pfedmoap.methods.fedsp.stages import Plan
from pfedmoap.models.protected.interface import AuxiliaryModel, Towers
from pfedmoap.wire.messages import Arrays, Download


def gap_of_stages(mode: Mode, stages: Plan, client: AuxiliaryModel) -> str | None:
    """Return why a mode would void the guarantee; ``None`` if it holds.

    Args:
        mode: The mode.
        stages: What a client trains.
        client: The clients' model.
    """
    if mode == "release":
        return None
    if mode == "central":
        return (
            "the server also remembers from each upload who has its auxiliary, which noise on "
            "the average does not cover. Use `--privacy release`, or promptfl"
        )
    if mode == "joint" and stages == "alternate":
        return (
            "it takes two sets of steps on the same examples in a round, and the budget is "
            "planned for one; use --method.stages prompt or joint, or `--privacy release`"
        )
    if mode == "decoupled":
        return (
            "its auxiliary stays at home, but trained without noise it would steer the "
            "prefix; use mode joint with --method.stages prompt, or `--privacy release`"
        )
    return client.step_gap


def no_tower_at_home(download: Download, local: Arrays | None) -> NoReturn:
    """See `CanFold`: clients have an auxiliary in place of the towers.

    Raises:
        MethodError: Always.
    """
    del download, local
    refuse_to_fold(
        "clients of fedsp classify with an auxiliary of their own in place of the backbone, whose "
        "image tower belongs to the server; serve the run itself (`pfedmoap serve-model RUN "
        "--client N`)"
    )


def lack_of_examples(protects: Towers, distillation_steps: int, server_step: bool) -> str | None:
    """Return what a server without examples of its own lacks; ``None`` if it needs none.

    Args:
        protects: The protected towers; a text tower alone is distilled on texts.
        distillation_steps: Steps of distillation.
        server_step: Whether the server trains the average.
    """
    if not server_step and (protects == "text" or distillation_steps == 0):
        return None
    return (
        "FedSP's server distils and trains on examples of its own, and has none: give it some "
        "with --sampling.server_shots 4; without them only --method.server_step false can run, "
        "with --method.protects text or --method.distillation_steps 0"
    )
