"""The encoder that clients train through takes the training's options."""

import logging

import pytest
import torch

from pfedmoap.client.local_training import Training
from pfedmoap.contract.tasks import Setting
from pfedmoap.models.clip.compiled import CompiledEncoder, uncompiled
from pfedmoap.models.memory import ActivationBound
from pfedmoap.prompts.encoder import training_encoder
from tests.helpers.models import CLASS_NAMES, tiny_clip


def encoder_for(clip, **training):
    return training_encoder(Setting(clip, CLASS_NAMES, Training(**training)), 4)


def counted(calls, fail=None):
    def compiler(module, **options):
        def call(contexts):
            calls.append(tuple(contexts.shape))
            if fail is not None:
                raise fail
            return module(contexts)

        return call

    return compiler


def test_the_bound_on_memory_is_handed_on(clip):
    asked = encoder_for(clip, memory_bytes=800)
    assert asked.bound == ActivationBound(800, 100, 700)
    assert not isinstance(asked, CompiledEncoder)


def test_training_passes_are_compiled_and_others_are_not(clip, monkeypatch):
    calls: list = []
    monkeypatch.setattr(torch, "compile", counted(calls))
    encode = encoder_for(clip, compile=True, memory_bytes=800)
    leaf = torch.randn(2, 4, 32, requires_grad=True)
    torch.testing.assert_close(encode(leaf), encoder_for(clip)(leaf), rtol=0, atol=1e-5)
    assert calls == [(2, 4, 32)]
    with torch.no_grad():
        encode(leaf)
    with uncompiled():
        assert encode(leaf).requires_grad
    assert len(calls) == 1
    assert encode.bound == ActivationBound(800, 100, 700)


def test_without_a_compiler_it_runs_as_it_is_and_says_so_once(clip, monkeypatch, caplog):
    calls: list = []
    failure = RuntimeError("InvalidCxxCompiler: no working C++ compiler\nand a long trace")
    monkeypatch.setattr(torch, "compile", counted(calls, failure))
    encode = encoder_for(clip, compile=True)
    leaf = torch.randn(2, 4, 32, requires_grad=True)
    with caplog.at_level(logging.WARNING):
        found = [encode(leaf) for _ in range(2)]
    assert all(torch.equal(each, encoder_for(clip)(leaf)) for each in found)
    (record,) = caplog.records
    assert "no working C++ compiler" in record.getMessage()
    assert "long trace" not in record.getMessage()
    assert len(calls) == 1


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")  # of the compiler; one that is an error would end it
def test_a_compiled_encoder_agrees_with_the_plain_one():
    clip = tiny_clip(device="cuda")
    leaf = torch.randn(2, 4, 32, device="cuda", requires_grad=True)
    found, expected = encoder_for(clip, compile=True)(leaf), encoder_for(clip)(leaf)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
