"""Checks of a server's average: that noise on it covers all, and that it follows the rule."""

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from typing import Any, get_args

import torch

from eval.contract.federation import SmallFederation
from eval.contract.requirements import require, require_same
from pfedmoap.config.server import Rule, ServerOptions
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.privacy_analysis import gap_in_analysis
from pfedmoap.contract.unread_options import gap_in_aggregation, refuse_unread_options
from pfedmoap.errors import ConfigError
from pfedmoap.wire.messages import Arrays, ClientId, Update

_TOLERANCE = 1e-4  # of float32 sums in another order
_NEWCOMER = ClientId(999)
_SCALED = 100.0  # what a hostile client multiplies its upload by
_MOVED = 0.5  # most that it may move a robust average, in units of the mean


def a_method_for_central_privacy_sees_uploads_through_their_mean(world: SmallFederation) -> None:
    """One upload that equals the mean, from any client, gives the same state as all uploads."""
    method = world.method
    if gap_in_analysis(method, "central") is not None:
        return
    state, _, results = world.rounds(2)
    downloads = method.plan(state, world.clients, 3)
    for download in downloads:
        missing = sorted(set(method.uploads) - set(download.arrays))
        require(not missing, f"{missing} are uploaded, and clients are sent no start for them")
        require_same(
            download.arrays,
            downloads[0].arrays,
            f"clients {downloads[0].client} and {download.client} are sent different things",
        )
    updates = [replace(result.update, num_examples=None) for result in results]
    mean = {
        name: torch.stack([update.arrays[name].double() for update in updates]).mean(0).float()
        for name in method.uploads
    }
    expected = method.to_arrays(method.aggregate(state, updates))
    for sender in (updates[0].client, ClientId(-1)):
        alone = method.aggregate(state, [Update(updates[0].round, sender, mean, None)])
        require_same(
            method.to_arrays(alone),
            expected,
            "its `privacy_gap` lets central privacy noise the mean of the uploads, but the server "
            "makes something else of them than of their mean; refuse the mode `central`",
            _TOLERANCE,
        )


def the_server_follows_the_rule_of_aggregation_or_says_that_it_does_not(
    world: SmallFederation,
) -> None:
    """One hostile upload in eight moves what is sent to all less than it moves the mean."""
    state, _, results = world.rounds(2)
    rules = [ServerOptions(aggregation=rule) for rule in get_args(Rule)]
    if gap_in_aggregation(world.method) is not None:
        for options in rules[1:]:
            _require_refusal(world.again(server=options).method)
        return
    honest = [result.update for result in results]
    honest += [_like(update, ClientId(100 + update.client)) for update in honest]
    hostile = [*honest[:-1], _scaled(honest[-1])]
    moved = {}
    for options in rules:
        method = world.again(server=options).method
        refuse_unread_options(method)
        before, after = _sent(method, state, honest), _sent(method, state, hostile)
        moved[options.aggregation] = _distance(before, after)
        require_same(
            method.to_arrays(method.aggregate(state, hostile[::-1])),
            method.to_arrays(method.aggregate(state, hostile)),
            f"with server.aggregation {options.aggregation}, the order of updates counts",
        )
    for rule, length in moved.items():
        require(
            rule == "mean" or length < _MOVED * moved["mean"],
            f"its `aggregation_gap` is None, but with server.aggregation {rule} a hostile upload "
            f"moves what is sent by {length:.3g}, and with the mean by {moved['mean']:.3g}: "
            "average with `pfedmoap.server.aggregation.combine` and `setting.server`",
        )


def _require_refusal(method: AnyMethod) -> None:
    try:
        refuse_unread_options(method)
    except ConfigError:
        return
    rule = method.setting.server.aggregation
    require(False, f"server.aggregation {rule} changes nothing and is not refused")


def _like(update: Update, client: ClientId) -> Update:
    """Another client's upload, a little beside one."""
    arrays = {
        name: value * 1.001 if value.is_floating_point() else value
        for name, value in update.arrays.items()
    }
    return replace(update, client=client, arrays=arrays)


def _scaled(update: Update) -> Update:
    arrays = {
        name: -_SCALED * value if value.is_floating_point() else value
        for name, value in update.arrays.items()
    }
    return replace(update, arrays=arrays)


def _sent(method: AnyMethod, state: Any, updates: Sequence[Update]) -> Arrays:
    """What a newcomer is sent after a round: the server's averages, and nobody's own prompt."""
    [download] = method.plan(method.aggregate(state, updates), [_NEWCOMER], 3)
    return download.arrays


def _distance(before: Arrays, after: Arrays) -> float:
    """Length of the change of arrays of equal shapes; infinite where shapes changed."""
    total = 0.0
    for name, old in before.items():
        if old.shape != after[name].shape:
            return float("inf")
        total += float((old.double() - after[name].double()).square().sum())
    return sqrt(total)
