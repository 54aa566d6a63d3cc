"""The contract of a method as a list of checks, and running them all.

A check takes a `SmallFederation` and raises `MethodError`, whose message says what is wrong;
whatever else the method raises on the way fails the check, too.
"""

from collections.abc import Callable, Iterator

from eval.contract import averages, behaviour, determinism, folding, leaving
from eval.contract.federation import SmallFederation
from pfedmoap.errors import MethodError

Check = Callable[[SmallFederation], None]

_ALL: tuple[Check, ...] = (
    behaviour.is_a_documented_frozen_dataclass,
    behaviour.declares_what_it_needs,
    behaviour.uploads_are_exactly_the_declared_arrays,
    behaviour.what_a_client_keeps_to_itself_reaches_nobody,
    behaviour.metrics_are_a_finite_training_loss,
    behaviour.predicting_reads_and_never_writes,
    behaviour.predictions_have_a_logit_for_every_class,
    behaviour.the_global_model_is_all_in_what_clients_are_sent,
    behaviour.examples_are_classified_independently,
    behaviour.many_clients_are_answered_as_each_alone,
    behaviour.a_client_that_never_took_part_can_predict_and_join,
    behaviour.personal_copies_do_not_touch_the_federation,
    behaviour.what_is_known_survives_half_precision_on_the_wire,
    folding.a_folded_model_answers_as_the_method_does,
    leaving.who_has_left_is_in_no_state,
    averages.a_method_for_central_privacy_sees_uploads_through_their_mean,
    averages.the_server_follows_the_rule_of_aggregation_or_says_that_it_does_not,
    determinism.same_seed_gives_the_same_bytes,
    determinism.another_seed_gives_another_model,
    determinism.global_random_state_is_neither_read_nor_changed,
    determinism.order_of_tasks_and_updates_is_irrelevant,
    determinism.order_of_the_cohort_is_irrelevant_to_the_plan,
    determinism.saved_and_loaded_state_goes_on_identically,
    determinism.rows_of_the_server_change_with_their_cohort_alone,
    determinism.clients_side_by_side_equal_clients_one_by_one,
    determinism.a_client_does_not_depend_on_who_ran_before,
    determinism.inputs_are_left_alone,
    determinism.a_round_without_admitted_updates_changes_nothing,
    determinism.only_declared_features_are_read,
)
CHECKS: dict[str, Check] = {check.__name__.replace("_", " "): check for check in _ALL}
"""All checks, by what they hold a method to."""


def run_checks(world: SmallFederation) -> Iterator[tuple[str, str | None]]:
    """Run every check on a method.

    Args:
        world: The method on a small federation.

    Yields:
        What is checked, and what is wrong; ``None`` where nothing is.
    """
    for name, check in CHECKS.items():
        try:
            check(world)
        except MethodError as error:
            yield name, str(error)
        except Exception as error:  # whatever a method under test raises
            yield name, f"{type(error).__name__}: {error}"
        else:
            yield name, None
