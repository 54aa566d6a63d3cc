"""What a method declares, sends, keeps and predicts."""

import math
from collections.abc import Mapping
from dataclasses import fields

import torch
from jsonargparse import ArgumentParser

from eval.contract.federation import SmallFederation
from eval.contract.requirements import require, require_same, snapshot
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.capabilities import SendsGlobalModel, personal_states
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.predicting import PredictionTask, plan_to_predict, predictions
from pfedmoap.contract.tasks import Prediction
from pfedmoap.server.admission import admit
from pfedmoap.wire.messages import Arrays, ClientId
from pfedmoap.wire.transport import InProcess


def is_a_documented_frozen_dataclass(world: SmallFederation) -> None:
    """The class has a docstring, and each option a line in it that ``--help`` can show."""
    kind = type(world.method)
    require(bool(kind.__doc__), f"{kind.__name__} has no docstring")
    first = fields(world.method)[0].name  # type: ignore[arg-type]  # every method is a dataclass
    require(first == "setting", f"the first field of {kind.__name__} must be `setting`")
    parser = ArgumentParser()
    parser.add_class_arguments(kind, "method", skip={"setting"})
    options = {f"method.{f.name}" for f in fields(world.method) if f.init} - {"method.setting"}  # type: ignore[arg-type]
    given = {a.dest: a.help for a in parser._actions if a.dest in options}
    # Older jsonargparse puts a mark where there is no help.
    silent = sorted(dest for dest, text in given.items() if text in (None, "", "_EMPTY_HELP_"))
    require(not silent, f"say under `Attributes:` of the docstring what these do: {silent}")


def declares_what_it_needs(world: SmallFederation) -> None:
    """Features are those of the backbone, and uploads have a size."""
    method = world.method
    unknown = sorted(set(method.features) - set(method.setting.backbone.feature_kinds))
    require(not unknown, f"the backbone has no features of kinds {unknown}")
    require(isinstance(method.trains, bool), "`trains` must be True or False")
    empty = [n for n, spec in method.uploads.items() if not all(side > 0 for side in spec.shape)]
    require(not empty, f"declared uploads {empty} are empty")


def uploads_are_exactly_the_declared_arrays(world: SmallFederation) -> None:
    """Every update passes the server's own checks."""
    for rounds in (1, 2):
        _, _, results = world.rounds(rounds)
        for result in results:
            admit(result.update, world.method.uploads, result.update.client, rounds)


def what_a_client_keeps_to_itself_reaches_nobody(world: SmallFederation) -> None:
    """Values of the local state that are not exchanged occur in no message and no server state."""
    method = world.method
    state, local_states, results = world.rounds(2)
    messages = [result.update.arrays for result in results]
    messages += [download.arrays for download in method.plan(state, world.clients, 3)]
    messages += [method.to_arrays(state)]
    public = {array.numpy().tobytes() for arrays in messages for array in arrays.values()}
    for task in world.tasks(state, sorted(local_states), 2, local_states):
        local = task.local or {}
        for name in sorted(local.keys() - set(method.uploads) - set(task.download.arrays)):
            if local[name].numel() > 1:  # two counts of steps may well be the same number
                hidden = local[name].numpy().tobytes() not in public
                require(hidden, f"{name!r} of client {task.download.client} left it")


def metrics_are_a_finite_training_loss(world: SmallFederation) -> None:
    """An update reports ``train_loss`` and nothing else."""
    _, _, results = world.rounds(1)
    for result in results:
        found = dict(result.update.metrics)
        require(set(found) == {"train_loss"}, f"metrics are {sorted(found)}, want train_loss")
        require(math.isfinite(found["train_loss"]), f"train_loss is {found['train_loss']}")


def predicting_reads_and_never_writes(world: SmallFederation) -> None:
    """The same input has the same prediction, and no state changes."""
    arrays = world.method.to_arrays
    state, local_states, _ = world.rounds(2)
    frozen = snapshot(arrays(state))
    frozen_local_states = {client: snapshot(local) for client, local in local_states.items()}
    first, second = world.predict(state, local_states), world.predict(state, local_states)
    world.method.predict_global(state, world.data[world.clients[0]].view())
    require_same(frozen, arrays(state), "the server's state was written into")
    for client, answer in first.items():
        require(torch.equal(answer.logits, second[client].logits), "answers change")
        if client in local_states:
            require_same(
                frozen_local_states[client], local_states[client], "local state was written into"
            )


def predictions_have_a_logit_for_every_class(world: SmallFederation) -> None:
    """Shapes, finite numbers, and attention that sums to 1."""
    classes = len(world.method.setting.class_names)
    state, local_states, _ = world.rounds(2)
    for client, prediction in world.predict(state, local_states).items():
        _require_answers(prediction, len(world.data[client]), classes)
    first = world.data[world.clients[0]]
    everybody = world.method.predict_global(state, first.view())
    if everybody is not None:
        _require_answers(everybody, len(first), classes)


def the_global_model_is_all_in_what_clients_are_sent(world: SmallFederation) -> None:
    """A method that says so lets a site test the global model by its download alone."""
    method = world.method
    if not isinstance(method, SendsGlobalModel):
        return
    state, _, _ = world.rounds(2)
    for download in method.plan(state, world.clients, 3):
        features = world.data[download.client].view()
        own, whole = method.predict_sent(download, features), method.predict_global(state, features)
        require((own is None) == (whole is None), "predict_sent and predict_global differ")
        if own is not None and whole is not None:
            require(torch.equal(own.logits, whole.logits), "predict_sent is another model")


def _require_answers(prediction: Prediction, images: int, classes: int) -> None:
    logits, attention = prediction.logits, prediction.attention
    expected = (images, classes)
    require(logits.shape == expected, f"logits are {tuple(logits.shape)}, want {expected}")
    require(bool(logits.isfinite().all()), "logits are not finite")
    require(not logits.requires_grad, "predict under torch.no_grad()")
    if attention is not None:
        shape = (*expected, 1 + len(prediction.experts))
        require(attention.shape == shape, f"attention is {tuple(attention.shape)}, want {shape}")
        total = attention.sum(-1)
        require(bool(torch.allclose(total, torch.ones_like(total))), "attention must sum to 1")


def examples_are_classified_independently(world: SmallFederation) -> None:
    """An image's answer does not depend on the others in its batch."""
    state, local_states, _ = world.rounds(2)
    client = max(world.clients, key=lambda each: len(world.data[each]))
    (download,) = world.method.plan(state, [client], 3)
    view = world.data[client].view()
    together = world.method.predict(download, local_states.get(client), view).logits
    one = {kind: values[2:3] for kind, values in view.items()}
    alone = world.method.predict(download, local_states.get(client), one).logits
    near = torch.allclose(together[2:3], alone, atol=1e-4)
    require(near, "an image alone has other logits than among others")


def many_clients_are_answered_as_each_alone(world: SmallFederation) -> None:
    """What `CanPredictTogether` and `CanPlanForNewcomers` save changes no answer."""
    method = world.method
    state, local_states, _ = world.rounds(2, world.clients[:-1])
    newcomers = frozenset(world.clients[-1:])
    everybody = plan_to_predict(method, state, world.clients, 3, newcomers)
    expected = world.predict(state, local_states)
    # In parts, as a large test set would be.
    tasks = [
        PredictionTask(download, local_states.get(download.client), part)
        for download in everybody
        for part in _halves(world.data[download.client].view())
    ]
    answers = list(predictions(method, tasks))
    require(len(answers) == len(tasks), f"{len(answers)} answers to {len(tasks)} tasks")
    for client, alone in expected.items():
        own = [a for task, a in zip(tasks, answers, strict=True) if task.download.client == client]
        require_same(
            {"probabilities": torch.cat([each.logits for each in own]).cpu().softmax(-1)},
            {"probabilities": alone.logits.cpu().softmax(-1)},
            f"client {client} has other answers among many than alone",
            tolerance=1e-5,
        )
        require(own[0].experts == alone.experts, f"experts of client {client} got lost")
        if alone.attention is not None:
            found = [each.attention for each in own if each.attention is not None]
            require(len(found) == len(own), f"attention of client {client} got lost")
            require_same(
                {"attention": torch.cat(found).cpu()},
                {"attention": alone.attention.cpu()},
                f"client {client} has other attention among many than alone",
                tolerance=1e-5,
            )


def _halves(view: Arrays) -> list[Arrays]:
    count = len(next(iter(view.values())))
    cuts = [(0, count // 2), (count // 2, count)] if count > 1 else [(0, count)]
    return [{kind: value[start:end] for kind, value in view.items()} for start, end in cuts]


def a_client_that_never_took_part_can_predict_and_join(world: SmallFederation) -> None:
    """``local`` is None for a newcomer."""
    newcomer, cohort = world.clients[-1], [world.clients[0], world.clients[2]]
    state, local_states, _ = world.rounds(2, cohort)
    require(newcomer not in local_states, "a client has local state without having taken part")
    (download,) = world.method.plan(state, [newcomer], 3)
    prediction = world.method.predict(download, None, world.data[newcomer].view())
    classes = len(world.method.setting.class_names)
    _require_answers(prediction, len(world.data[newcomer]), classes)
    state, local_states, _ = world.round(state, local_states, [world.clients[2], newcomer], 3)
    world.predict(state, local_states)


def personal_copies_do_not_touch_the_federation(world: SmallFederation) -> None:
    """What `CanPersonalise.personalise` tunes is used for inference only."""
    method = world.method
    state, local_states, _ = world.rounds(1)
    frozen = snapshot(method.to_arrays(state))
    tasks = world.tasks(state, world.clients, 2, local_states)
    personal: Mapping[ClientId, Arrays | None] = personal_states(method, tasks, NoPrivacy())
    require(personal.keys() == world.data.keys(), "some client has no personal state")
    require_same(frozen, method.to_arrays(state), "personal tuning changed the server's state")
    classes = len(method.setting.class_names)
    for task in tasks:
        answer = method.predict(task.download, personal[task.download.client], task.data.view())
        _require_answers(answer, len(task.data), classes)


def what_is_known_survives_half_precision_on_the_wire(world: SmallFederation) -> None:
    """Rounds work where the wire carries float16."""
    method: AnyMethod = world.method
    _, local_states, results = world.rounds(1)
    wire = InProcess("float16")
    state = method.aggregate(method.init(), [wire.up(result.update) for result in results])
    for download in map(wire.down, method.plan(state, world.clients, 2)):
        view = world.data[download.client].view()
        logits = method.predict(download, local_states.get(download.client), view).logits
        require(bool(logits.isfinite().all()), "logits are not finite after float16")
