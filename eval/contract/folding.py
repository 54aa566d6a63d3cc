"""What is left of a client's model once its prompts are encoded."""

import torch

from eval.contract.federation import SmallFederation
from eval.contract.requirements import require
from pfedmoap.contract.folding import fold
from pfedmoap.errors import MethodError
from pfedmoap.exported.heads import make_head
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import ClientId

_NEWCOMER = ClientId(998)
_TOLERANCE = 1e-5


def a_folded_model_answers_as_the_method_does(world: SmallFederation) -> None:
    """See `pfedmoap.contract.folding.CanFold`; a method that cannot fold raises `MethodError`."""
    method, backbone = world.method, world.method.setting.backbone
    try:
        fold(method, method.plan(method.init(), [_NEWCOMER], 1)[0], None)
    except MethodError:
        return
    state, local_states, _ = world.rounds(2)
    side = backbone.preprocessing.size
    images = torch.randn(5, 3, side, side, generator=generator(3, "folded"))
    seen = backbone.features(
        images, tuple(dict.fromkeys((*method.features, *backbone.feature_kinds)))
    )
    for download in method.plan(state, sorted([*world.clients, _NEWCOMER]), 3):
        local = local_states.get(download.client)
        folded = fold(method, download, local)
        head = make_head(folded, backbone.images, len(method.setting.class_names))
        with torch.no_grad():
            logits, attention = head(seen)
        expected = method.predict(download, local, seen)
        who = f"client {download.client}'s folded model"
        apart = (logits.softmax(-1) - expected.logits.to(logits.device).softmax(-1)).abs().max()
        require(float(apart) <= _TOLERANCE, f"{who} answers otherwise than `predict`")
        weighed = expected.attention
        require((attention is None) == (weighed is None), f"{who} has another gate")
        if attention is not None and weighed is not None:
            near = torch.allclose(attention, weighed.to(attention.device), atol=_TOLERANCE)
            require(near, f"{who} attends to others than `predict`")
            require(folded.experts == expected.experts, f"{who} names other experts")
