"""Questions read from JSON lines: what is taken, and what is refused by line."""

import json

import numpy as np
import pytest

from pfedmoap.data.dirichlet import Dirichlet
from pfedmoap.data.few_shot import draw_images
from pfedmoap.data.partition import IID, Pathological
from pfedmoap.data.questions.reader import Questions
from pfedmoap.errors import ConfigError, DataError
from pfedmoap.models.language.question import Question
from tests.helpers.language_models import colour_questions, write_lines

GOOD = {"question": "why?", "choices": ["a", "b"], "answer": 1}


def test_a_file_becomes_a_data_set(tmp_path):
    file = write_lines(tmp_path / "q.jsonl", [GOOD, GOOD | {"choices": ["a", "b", "c"]}] * 5)
    found = Questions(str(file)).read()
    assert found.class_names == ("choice 1", "choice 2", "choice 3")
    assert found.labels.tolist() == [1] * 10
    assert found.load(1) == Question("Question: why?\nAnswer:", ("a", "b", "c"))
    assert found.is_test.sum() == 3
    assert found.shared_out is found
    assert found.name == "q"


def test_choices_that_all_questions_share_name_the_classes(tmp_path):
    file = write_lines(tmp_path / "q.jsonl", [GOOD | {"split": s} for s in ("train", "test")])
    found = Questions(str(file), template="{} so").read()
    assert found.class_names == ("a", "b")
    assert found.is_test.tolist() == [False, True]
    assert found.load(0).prompt == "why? so"


def test_a_folder_is_divided_by_its_files(tmp_path):
    write_lines(tmp_path / "train.jsonl", [GOOD] * 3)
    write_lines(tmp_path / "test.jsonl", [GOOD | {"domain": None}] * 2)
    found = Questions(str(tmp_path)).read()
    assert found.is_test.tolist() == [False] * 3 + [True] * 2
    (tmp_path / "test.jsonl").unlink()
    with pytest.raises(DataError, match=r"has no test\.jsonl"):
        Questions(str(tmp_path)).read()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 2 is not JSON"),
        ("[]", "line 2: expected an object"),
        ({"question": "why?"}, "line 2 has no choices, answer"),
        (GOOD | {"question": " "}, "line 2: question is ' '"),
        (GOOD | {"choices": ["a"]}, "two texts at least"),
        (GOOD | {"choices": ["a", "a"]}, r"choices \['a'\] occur twice"),
        (GOOD | {"answer": 2}, "answer is 2, expected 0 to 1"),
        (GOOD | {"answer": True}, "answer is True"),
        (GOOD | {"split": "dev"}, "split is 'dev', expected train or test"),
        (GOOD | {"class": 3}, "class is 3, expected a text"),
        (GOOD | {"domain": "x"}, "line 1 has no domain, and 1 other"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, complaint):
    text = line if isinstance(line, str) else json.dumps(line)
    (tmp_path / "q.jsonl").write_text(f"{json.dumps(GOOD)}\n{text}\n")
    with pytest.raises(DataError, match=complaint):
        Questions(str(tmp_path / "q.jsonl")).read()


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(DataError, match="there is no file or folder"):
        Questions(str(tmp_path / "nothing.jsonl")).read()
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="has no questions"):
        Questions(str(tmp_path / "empty.jsonl")).read()
    with pytest.raises(ConfigError, match=r"data\.template"):
        Questions(str(tmp_path / "empty.jsonl"), template="no place").read()


def test_classes_decide_how_questions_are_shared_out_and_answers_what_is_learned(tmp_path):
    entries = colour_questions(60)
    found = Questions(str(write_lines(tmp_path / "q.jsonl", entries))).read()
    assert found.labels.tolist() == [entry["answer"] for entry in entries]
    shared = found.shared_out
    assert shared.class_names == ("fire", "grass", "sky")
    mine, servers = draw_images(shared, None, 4, seed=0)
    assert not set(mine) & set(servers)
    assert np.bincount(shared.labels[servers]).tolist() == [4, 4, 4]
    for partition in (IID(3), Dirichlet(3, alpha=1.0), Pathological(3)):
        splits = partition.split(shared, mine, seed=0)
        assert sorted(np.concatenate([split.train for split in splits])) == sorted(mine)
    assert [len(set(shared.labels[split.train])) for split in splits] == [1, 1, 1]


def test_the_fingerprint_follows_content_and_template(tmp_path):
    file = write_lines(tmp_path / "q.jsonl", [GOOD] * 4)
    first = Questions(str(file)).read().fingerprint
    assert Questions(str(file), template="{} so").read().fingerprint != first
    write_lines(file, [GOOD | {"answer": 0}] * 4)
    assert Questions(str(file)).read().fingerprint != first
