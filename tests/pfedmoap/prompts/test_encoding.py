"""Prompts are encoded once each, and what is kept of them is bounded."""

import torch

from pfedmoap.prompts.encoding import EncodedOnce, content

CPU = torch.device("cpu")


class Counting:
    """An encoder that counts what it encodes, in which calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, contexts):
        self.calls.append(len(contexts))
        return contexts.sum(1)[:, None].expand(-1, 3, -1)


def prompts(*numbers):
    return [torch.full((2, 4), float(number)) for number in numbers]


def test_equal_prompts_are_encoded_once_and_in_calls_of_bounded_size():
    encoder = Counting()
    encode = EncodedOnce(encoder, 2, CPU)
    found = encode(prompts(3, 1, 3, 5, 1, 7, 9))
    assert encoder.calls == [2, 2, 1]
    for feature, prompt in zip(found, prompts(3, 1, 3, 5, 1, 7, 9), strict=True):
        assert torch.equal(feature, prompt.sum(0).expand(3, -1))
    encode(prompts(9, 3, 2))
    assert encoder.calls[3:] == [1]
    assert encode([]) == []


def test_what_another_one_found_is_not_encoded_again():
    first, second = Counting(), Counting()
    before = EncodedOnce(first, 8, CPU)
    before(prompts(1, 2))
    after = EncodedOnce(second, 8, CPU, before.found)
    after(prompts(2, 1, 4))
    assert second.calls == [1]
    assert len(before.found) == 2  # its own


def test_memory_for_what_is_kept_is_bounded_and_answers_are_whole():
    encoder = Counting()
    encode = EncodedOnce(encoder, 8, CPU, most_bytes=3 * 3 * 4 * 4)  # three prompts' features
    for numbers in ((1, 2), (3, 4), (1, 2, 3, 4, 5), (1, 2)):
        found = encode(prompts(*numbers))
        assert [float(feature[0, 0]) / 2 for feature in found] == list(numbers)
        assert len(encode.found) <= 3


def test_content_tells_shape_dtype_and_numbers_apart():
    prompt = torch.zeros(2, 4)
    others = [torch.zeros(4, 2), torch.zeros(2, 4, dtype=torch.half), torch.full((2, 4), -0.5)]
    assert content(prompt) == content(torch.zeros(4, 4)[::2])
    assert len({content(each) for each in (prompt, *others)}) == 4


def test_prompts_of_one_owner_are_compared_and_others_digested(monkeypatch):
    """What is named after an owner need not be its prompt: only equal numbers share features."""
    digested = []
    monkeypatch.setattr(
        "pfedmoap.prompts.encoding.content", lambda each: digested.append(each) or content(each)
    )
    one, two = torch.randn(2, 3, 4)
    contexts = [one, one.clone(), two, one.clone(), two.clone()]
    owners = [7, 7, 7, None, 7]
    encode = EncodedOnce(lambda rows: rows.clone(), 8, CPU)
    found = encode(contexts, owners)
    assert all(map(torch.equal, found, contexts))
    assert len(encode.found) == 2
    assert len(digested) == 3  # the first of 7, another one of 7, and the one that is nobody's
