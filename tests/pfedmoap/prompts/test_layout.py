"""Class positions and class-specific contexts, against prompts encoded class by class."""

from dataclasses import replace

import pytest
import torch

from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.errors import ConfigError, ShapeError
from pfedmoap.methods.fedavg_pt import FedAvgPT
from pfedmoap.methods.fedotp.method import FedOTP
from pfedmoap.methods.fedper import FedPer
from pfedmoap.methods.fedpgp.method import FedPGP
from pfedmoap.methods.pfedmoap.method import PFedMoAP
from pfedmoap.methods.promptfl import PromptFL
from pfedmoap.prompts.layout import PromptLayout
from tests.helpers.training_steps import data, run_rounds, setting

__all__ = ["data", "setting"]


@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_words_of_a_prompt_are_the_sentence_with_the_class_there(setting, position):
    """A context of the words `a photo` is that sentence, whichever way it is encoded."""
    layout = PromptLayout(setting, 2, "a photo", position)
    found = layout.encoder()(layout.initial(0)[None])[0]
    text = {"end": "a photo {}.", "middle": "a {} photo.", "front": "{} a photo."}[position]
    sentences = [text.replace("{}", name) for name in setting.class_names]
    torch.testing.assert_close(found, setting.backbone.text_features(sentences), atol=1e-5, rtol=0)


@pytest.mark.parametrize("position", ["end", "middle"])
def test_each_class_is_encoded_with_its_own_context(setting, position):
    layout = PromptLayout(setting, 3, position=position, specific=True)
    classes = len(setting.class_names)
    assert layout.rows == 3 * classes
    prompts = torch.stack([layout.initial(seed) for seed in (0, 1)])
    found = layout.encoder()(prompts)
    shared = replace(layout, specific=False).encoder()
    for expert in range(2):
        for c in range(classes):
            alone = shared(prompts[expert, None, 3 * c : 3 * c + 3])[0, c]
            torch.testing.assert_close(found[expert, c], alone, atol=1e-5, rtol=0)
    with pytest.raises(ShapeError, match="expected"):
        layout.encoder()(prompts[:, :4])


def test_words_are_the_same_for_all_classes_and_bind_the_model_to_them(setting):
    layout = PromptLayout(setting, 2, "a photo", specific=True)
    one = replace(layout, specific=False)
    assert torch.equal(layout.initial(0), one.initial(0).repeat(len(setting.class_names), 1))
    assert "other classes" in layout.class_bond()
    assert one.class_bond() is None
    assert PFedMoAP(setting, class_specific=True).class_bond() == layout.class_bond()


FORMS = [
    (PromptFL, {}),
    (FedOTP, {"iterations": 3}),
    (FedPGP, {"rank": 2}),
    (PFedMoAP, {"experts": 2}),
]


@pytest.mark.parametrize(("kind", "options"), FORMS)
@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_methods_train_and_send_class_specific_contexts(setting, data, kind, options, position):
    method = kind(
        setting, context_length=2, class_specific=True, class_position=position, **options
    )
    rows = 2 * len(setting.class_names)
    assert method.uploads["context"].shape == (rows, setting.backbone.text_width)
    state, kept, results = run_rounds(method, data, NoPrivacy(), 2)
    context = method.to_arrays(state)["context"]
    assert context.shape[0] == rows
    assert (context != method.to_arrays(method.init())["context"]).any(1).all()  # all rows learn
    download = method.plan(state, [0], 3)[0]
    prediction = method.predict(download, kept[0], data[0].view())
    assert prediction.logits.isfinite().all()
    assert len(results) == 2


def test_text_contexts_of_a_set_have_a_position(setting):
    logits = []
    image = torch.nn.functional.normalize(torch.randn(4, setting.backbone.embed_dim), dim=-1)
    for position in ("end", "front"):
        method = FedAvgPT(
            setting, modality="text", prompts=2, context_length=2, class_position=position
        )
        logits.append(method.predict_global(method.init(), {"image": image}).logits)
    assert not torch.allclose(*logits)


def test_vectors_kept_at_home_are_those_of_one_context(setting):
    with pytest.raises(ConfigError, match="class_specific false"):
        FedPer(setting, class_specific=True)
