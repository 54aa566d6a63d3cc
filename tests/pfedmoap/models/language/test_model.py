"""Tokens, names and refusals of a frozen language model."""

import builtins

import pytest
import torch

from eval.holdout import class_part
from pfedmoap.client.local_training import Training
from pfedmoap.config.sampling import Sampling, Seeds
from pfedmoap.contract.tasks import Setting
from pfedmoap.data.digits import Digits
from pfedmoap.data.federation import Features, build_federation
from pfedmoap.data.partition import IID
from pfedmoap.data.questions.reader import Questions
from pfedmoap.errors import BackboneError, ConfigError, DataError
from pfedmoap.methods.registry import Methods
from pfedmoap.models.language.model import FrozenLM
from pfedmoap.models.language.question import Question
from pfedmoap.models.language.scoring import ANSWER, KINDS, TOKENS
from pfedmoap.models.loading import BackboneOptions
from tests.helpers.language_models import make_model, make_tokenizer, write_lines

pytest.importorskip("transformers")

ASKED = Question("Question: the grass?\nAnswer:", ("green", "the sky."))


def build(dataset, backbone, kinds=KINDS, views=0):
    return build_federation(
        dataset,
        IID(3),
        backbone,
        kinds,
        sampling=Sampling(server_shots=1),
        seeds=Seeds(),
        features=Features(views=views),
        progress=False,
    )


@pytest.mark.parametrize("begin", [False, True])
def test_a_choice_stands_behind_the_prompt_and_is_marked(begin):
    tokenizer = make_tokenizer(begin)
    lm = FrozenLM(make_model("gpt2"), tokenizer)
    short = Question("Question: red?", ("yes", "no"))
    found = lm.encode([ASKED, short], 3)
    assert found[TOKENS].shape == found[ANSWER].shape == (2, 3, 10 + begin)
    for i, question in enumerate((ASKED, short)):
        for j, choice in enumerate(question.choices):
            row, answer = found[TOKENS][i, j], found[ANSWER][i, j]
            whole = tokenizer(f"{question.prompt} {choice}")["input_ids"]
            assert row[: len(whole)].tolist() == whole
            assert tokenizer.decode(row[answer]).replace(" .", ".") == choice
            assert not row[len(whole) :].any()
    assert not found[ANSWER][:, 2].any()


def test_a_question_beyond_the_model_s_positions_is_refused():
    lm = FrozenLM(make_model("gpt2"), make_tokenizer(), "tiny")
    with pytest.raises(DataError, match="has 71 tokens with a choice, and tiny has 64 positions"):
        lm.encode([Question("the " * 69 + ":", ("a", "red"))], 2)


def test_it_loads_from_a_folder_and_is_the_same_model(folder):
    options = BackboneOptions(f"lm:{folder}", device="cpu")
    one, two = options.load_any(), options.load_any()
    assert isinstance(one, FrozenLM)
    assert one.fingerprint == two.fingerprint
    assert one.device == torch.device("cpu")
    assert one.name == f"lm:{folder}"
    assert not any(value.requires_grad for value in one.model.parameters())
    half = BackboneOptions(f"lm:{folder}", precision="bf16", device="cpu").load_any()
    assert half.decoder.width == 16
    assert half.fingerprint != one.fingerprint


def test_fingerprint_follows_configuration_and_tokeniser():
    """Another number of heads has the same weights and other answers."""
    plain = FrozenLM(make_model("gpt2"), make_tokenizer(False))
    heads = make_model("gpt2")
    heads.config.n_head *= 2
    begun = FrozenLM(make_model("gpt2"), make_tokenizer(True))
    assert plain.fingerprint == FrozenLM(make_model("gpt2"), make_tokenizer(False)).fingerprint
    assert len({plain.fingerprint, FrozenLM(heads, make_tokenizer()).fingerprint}) == 2
    assert begun.fingerprint != plain.fingerprint


def test_what_cannot_be_loaded_says_what_to_do(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BackboneError, match="fetch the model on one that has"):
        BackboneOptions("lm:no-such/model", device="cpu").load_any()
    with pytest.raises(BackboneError, match="there is no folder"):
        BackboneOptions(f"lm:{tmp_path}/nothing", device="cpu").load_any()
    with pytest.raises(BackboneError, match="save_pretrained"):
        BackboneOptions(f"lm:{tmp_path}", device="cpu").load_any()
    with pytest.raises(BackboneError, match="drop `pretrained`"):
        BackboneOptions(f"lm:{folder}", "openai", device="cpu").load_any()
    with pytest.raises(BackboneError, match="is a language model"):
        BackboneOptions(f"lm:{folder}", device="cpu").load()
    importing = builtins.__import__

    def without(name, *rest):
        if name == "transformers":
            raise ImportError("No module named 'transformers'")
        return importing(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BackboneError, match=r'pip install "pfedmoap\[lm\]"'):
        BackboneOptions(f"lm:{folder}", device="cpu").load_any()


def test_every_method_for_clips_says_that_this_is_a_language_model(lm, file):
    dataset = Questions(str(file)).read()
    setting = Setting(lm, dataset.class_names, Training())
    for name, method in Methods().items():
        if name == "fedsp":
            continue
        with pytest.raises(BackboneError, match=r"is a language model .*--method fedsp"):
            build(dataset, lm, method(setting=setting).features)


def test_questions_need_a_language_model_and_images_a_clip(lm, clip, file):
    with pytest.raises(BackboneError, match="a CLIP cannot read them"):
        build(Questions(str(file)).read(), clip, ("image",))
    with pytest.raises(BackboneError, match="a language model cannot see them"):
        build(Digits().read(), lm)
    with pytest.raises(ConfigError, match="no augmented views"):
        build(Questions(str(file)).read(), lm, views=2)


def test_choices_cannot_be_halved_like_classes(lm, tmp_path):
    entry = {"question": "what is red?", "choices": ["the", "a", "sky", "fire"]}
    entries = [entry | {"answer": i % 4} for i in range(40)]
    dataset = Questions(str(write_lines(tmp_path / "four.jsonl", entries))).read()
    with pytest.raises(ConfigError, match="cannot be halved"):
        build(class_part(dataset, "base"), lm)


def test_a_federation_of_questions_holds_plain_tensors(lm, file):
    dataset = Questions(str(file)).read()
    federation = build(dataset, lm)
    assert federation.server is not None
    assert len(federation.server) == 3
    own = federation.clients[0]
    assert own.train.features[TOKENS].dtype == torch.int64
    assert own.train.features[ANSWER].dtype == torch.bool
    n, views, choices, _ = own.train.features[TOKENS].shape
    assert (n, views, choices) == (len(own.train), 1, 3)
    for row, i in enumerate(own.split.train):
        label = int(own.train.labels[row])
        assert label == dataset.labels[i]
        words = own.train.features[TOKENS][row, 0, label]
        answer = make_tokenizer().decode(words[own.train.features[ANSWER][row, 0, label]])
        assert answer.replace(" .", ".") == dataset.load(i).choices[label]
    assert federation.describe()["class_names"] == ["choice 1", "choice 2", "choice 3"]
