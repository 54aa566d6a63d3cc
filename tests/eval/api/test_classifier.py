"""The classifier keeps scikit-learn's contract, and trains as everything else here does."""

import doctest
import pickle
from dataclasses import replace

import numpy as np
import pytest
import sklearn
import torch
from packaging.version import Version
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_validate
from sklearn.utils import estimator_checks

import pfedmoap
from eval.api import classifier
from eval.api.inputs import laid_out
from eval.experiment import Experiment
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.tasks import ClientData
from pfedmoap.engine.simulation import Rounds, run_federation
from pfedmoap.errors import BackboneError, ConfigError, DataError, PFedMoAPError
from pfedmoap.wire.messages import ClientId

pytestmark = pytest.mark.filterwarnings(
    "ignore:Can't check dok sparse matrix:UserWarning"  # of scikit-learn's own checks
)
QUICK = {"training": {"local_steps": 3, "learning_rate": 1.0, "batch_size": 128}}
NUMBERS = pfedmoap.FederatedPromptClassifier(
    "promptfl",
    rounds=1,
    features="any",
    device="cpu",
    options={**QUICK, "method__class_specific": True, "method__context_length": 1},
)


if Version(sklearn.__version__) >= Version("1.6"):  # whose checks know estimators by their tags

    @estimator_checks.parametrize_with_checks([NUMBERS])
    def test_it_keeps_the_contract_of_scikit_learn(estimator, check):
        check(estimator)


DIGITS = load_digits()
GREY = (DIGITS.images * 15.9).astype(np.uint8)
LABELS = np.array([f"digit {label}" for label in DIGITS.target])
SITES = np.array(["north", "south", "west"])[np.arange(30) % 3]
OPTIONS = {"training": {"epochs": 1, "learning_rate": 0.5, "batch_size": 16}}


def made(method="pfedmoap", rounds=2, **more):
    small = {"method__context_length": 2}
    options = {**OPTIONS, **(small if method in ("pfedmoap", "promptfl") else {})}
    own = {"device": "cpu", **more, "options": {**options, **more.get("options", {})}}
    return pfedmoap.FederatedPromptClassifier(method, rounds=rounds, **own)


@pytest.fixture(scope="module")
def fitted():
    return made().fit(GREY[:30], LABELS[:30], groups=SITES)


def test_images_of_all_forms_get_the_same_answers(fitted, tmp_path):
    expected = fitted.predict_proba(GREY[:4], groups=SITES[:4])
    pictures = [Image.fromarray(image) for image in GREY[:4]]
    files = [tmp_path / f"{i}.png" for i in range(4)]
    for file, picture in zip(files, pictures, strict=True):
        picture.save(file)
    forms = [
        list(GREY[:4]),
        np.stack([GREY[:4]] * 3, axis=-1),
        pictures,
        files,
        [str(file) for file in files],
        np.array([str(file) for file in files]),
        np.array([[str(file)] for file in files], dtype=object),
        [file.read_bytes() for file in files],
    ]
    for images in forms:
        np.testing.assert_array_equal(fitted.predict_proba(images, groups=SITES[:4]), expected)
    with pytest.raises(DataError, match=r"put \[ \] around it"):
        fitted.predict(files[0])


def test_it_learns_by_the_engine_that_trains_everything(monkeypatch):
    """What sites keep is what the engine gives for the same method, data and seed."""
    seen = []
    real = Experiment.privatizer
    monkeypatch.setattr(
        Experiment, "privatizer", lambda self, where: (seen.append(self), real(self, where))[1]
    )
    model = made(seed=5).fit(GREY[:30], LABELS[:30], groups=SITES)
    [experiment] = seen
    method = experiment.method
    features = method.setting.backbone.features(
        torch.stack(
            [
                method.setting.backbone.preprocessing.centre(Image.fromarray(i).convert("RGB"))
                for i in GREY[:30]
            ]
        )
    )["image"][:, None]
    numbers = torch.from_numpy(np.unique(LABELS[:30], return_inverse=True)[1])
    data = {
        ClientId(i): ClientData({"image": features[site == SITES]}, numbers[site == SITES])
        for i, site in enumerate(["north", "south", "west"])
    }
    expected = run_federation(method, data, Rounds(rounds=2), 5, NoPrivacy())
    kept = model.learned_.kept
    assert kept.keys() == expected.local_states.keys() == {0, 1, 2}
    for client, arrays in expected.local_states.items():
        assert kept[client].keys() == arrays.keys()
        for name, value in arrays.items():
            torch.testing.assert_close(kept[client][name], value, rtol=0, atol=1e-6)
    assert experiment.config.sections["rounds"]["rounds"] == 2
    assert model.classes_.tolist() == sorted(set(LABELS[:30]))


def test_each_site_is_asked_its_own_model_and_others_are_newcomers(fitted):
    images = GREY[40:44]
    by_site = {site: fitted.predict_proba(images, groups=[site] * 4) for site in fitted.sites_}
    assert not np.allclose(by_site["north"], by_site["south"])
    mixed = fitted.predict_proba(images, groups=["west", "north", "west", "south"])
    rows = ["west", "north", "west", "south"]
    np.testing.assert_array_equal(mixed, [by_site[site][i] for i, site in enumerate(rows)])
    with pytest.raises(
        DataError, match=r"not seen: east; it has seen north, south, west.*newcomer"
    ):
        fitted.predict(images, groups=["east", "north", "west", "south"])
    newcomer = fitted.predict_proba(images)
    asks = clone(fitted).set_params(unknown_site="newcomer")
    asks.__dict__.update({k: v for k, v in vars(fitted).items() if k not in fitted.get_params()})
    found = asks.predict_proba(images, groups=["east", "north", "nowhere", "south"])
    np.testing.assert_array_equal(found[[0, 2]], newcomer[[0, 2]])
    np.testing.assert_array_equal(found[1], by_site["north"][1])
    with pytest.raises(DataError, match="sites of 2 images, and X has 4"):
        fitted.predict(images, groups=["north", "south"])


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        (["a", None, "b"], "no site for 1 images, the first of them 1"),
        ([1.0, 2.0, float("nan")], "no site for 1 images, the first of them 2"),
        (np.array(["a", 1, "b"], dtype=object), r"several types \(int, str\)"),
    ],
)
def test_sites_without_a_name_are_refused(groups, why):
    with pytest.raises(DataError, match=why):
        made().fit(GREY[:3], LABELS[:3], groups=groups)


def test_images_are_not_asked_of_what_has_learned_from_something_else():
    other = clone(NUMBERS).fit(np.eye(4), [0, 1, 0, 1])
    with pytest.raises(DataError, match="give features in both places"):
        other.predict(GREY[:2])
    other = clone(NUMBERS).fit(GREY[:4], [0, 1, 0, 1])
    with pytest.raises(DataError, match="give features in both places"):
        other.predict(np.eye(4))


def test_the_only_site_needs_no_name():
    model = made("promptfl", 1).fit(GREY[:20], LABELS[:20])
    assert model.sites_.tolist() == [0]
    np.testing.assert_array_equal(
        model.predict_proba(GREY[:5]), model.predict_proba(GREY[:5], groups=[0] * 5)
    )


def test_a_pickled_classifier_answers_the_same_and_holds_no_backbone(fitted):
    written = pickle.dumps(fitted)
    assert len(written) < 300_000
    again = pickle.loads(written)
    np.testing.assert_array_equal(
        again.predict_proba(GREY[:4], groups=SITES[:4]),
        fitted.predict_proba(GREY[:4], groups=SITES[:4]),
    )


def test_a_classifier_with_other_weights_than_it_was_trained_with_is_refused(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    again.learned_ = replace(again.learned_, fingerprint="0" * 64)
    with pytest.raises(BackboneError, match="trained with other weights"):
        again.predict(GREY[:1], groups=["north"])


def test_features_of_the_backbone_are_images_that_are_encoded_already(fitted):
    backbone = fitted.learned_.method().setting.backbone
    pixels = [backbone.preprocessing.centre(Image.fromarray(i).convert("RGB")) for i in GREY[:30]]
    features = backbone.features(torch.stack(pixels))["image"].numpy()
    model = made().fit(features, LABELS[:30], groups=SITES)
    np.testing.assert_allclose(
        model.predict_proba(features, SITES), fitted.predict_proba(GREY[:30], SITES), atol=1e-4
    )
    assert model.n_features_in_ == features.shape[1]
    with pytest.raises(DataError, match=r"X has 7 features, and the backbone's images have 128"):
        made().fit(np.ones((4, 7)), LABELS[:4])
    with pytest.raises(ConfigError, match="needs more of an image than its features"):
        made("fedotp").fit(features, LABELS[:30])


def test_a_fixed_map_keeps_angles_and_says_nothing_of_the_data():
    random = np.random.default_rng(0).standard_normal((5, 6))
    found = laid_out(random, 128, "any")
    whole = np.concatenate([random, np.ones((5, 1))], axis=1)
    unit = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    np.testing.assert_allclose(found @ found.T, unit @ unit.T, atol=1e-6)
    np.testing.assert_array_equal(found[:2], laid_out(random[:2], 128, "any"))
    assert laid_out(np.ones((2, 300)), 128, "any").shape == (2, 128)


def test_routed_sites_reach_training_and_scoring():
    """Metadata routing is how scikit-learn hands groups on; without it, fit sees one site."""
    with sklearn.config_context(enable_metadata_routing=True):
        model = made("promptfl", 1).set_fit_request(groups=True).set_score_request(groups=True)
        found = cross_validate(
            model,
            GREY[:40],
            LABELS[:40],
            params={"groups": np.arange(40) % 2},
            cv=2,
            return_estimator=True,
        )
    assert [each.sites_.tolist() for each in found["estimator"]] == [[0, 1], [0, 1]]
    assert np.isfinite(found["test_score"]).all()


def test_privacy_is_an_option_as_everywhere():
    noise = {"name": "dpsgd", "noise_multiplier": 2.0, "epsilon": 100.0, "insecure_seed": 1}
    model = made("promptfl", 1, options={"privacy": noise}).fit(GREY[:20], LABELS[:20])
    assert model.privacy_["mechanism"]["noise_multiplier"] == 2.0
    assert made("promptfl", 1).fit(GREY[:20], LABELS[:20]).privacy_ == {}


@pytest.mark.parametrize("method", ["promptfl_ft", "fedotp", "local_coop"])
def test_methods_that_tune_for_inference_or_need_patches_work_on_images(method):
    model = made(method, 1).fit(GREY[:12], LABELS[:12], groups=SITES[:12])
    found = model.predict_proba(GREY[:3], groups=SITES[:3])
    np.testing.assert_allclose(found.sum(1), 1)
    assert model.score(GREY[:12], LABELS[:12], groups=SITES[:12]) > 0.3


def test_names_of_classes_are_what_prompts_say():
    names = {"digit 0": "zero", "digit 1": "one"}
    few = np.isin(LABELS, list(names))
    images, labels = GREY[few][:8], LABELS[few][:8]
    model = made("promptfl", 1, class_names=names).fit(images, labels)
    assert model.learned_.class_names == ("zero", "one")
    assert set(model.predict(images)) <= set(names)
    in_order = made("promptfl", 1, class_names=["zero", "one"]).fit(images, labels)
    np.testing.assert_array_equal(in_order.predict_proba(images), model.predict_proba(images))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"options": {"data": "digits"}}, "options has data; the data are X and y here"),
        ({"options": {"partition__clients": 3}}, "partition__clients"),
        ({"options": {"trainings": {}}}, "trainings"),
        ({"method": "promptf"}, "promptfl"),
        ({"rounds": 0}, "rounds"),
        ({"features": "dino"}, "features is 'dino', expected clip or any"),
        ({"unknown_site": "guess"}, "unknown_site"),
        ({"class_names": ["a"]}, "class_names has 1 names, and y 10 labels"),
        ({"class_names": {"digit 1": "one"}}, r"class_names lacks \['digit 0'"),
        ({"method": "fedsp", "options": {}}, "server"),
    ],
)
def test_what_is_wrong_is_an_error_that_says_it(change, why):
    with pytest.raises(PFedMoAPError, match=why):
        made().set_params(**change).fit(GREY[:30], LABELS[:30])


def test_it_has_to_be_fitted():
    with pytest.raises(NotFittedError):
        made().predict(GREY[:2])


def test_the_example_of_the_docstring():
    done = doctest.testmod(classifier)
    assert done.attempted
    assert not done.failed
