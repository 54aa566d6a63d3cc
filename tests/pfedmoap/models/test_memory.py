"""What a pass keeps: all that fits, the rest computed again, to the same bits."""

from pathlib import Path

import pytest
import torch

from pfedmoap.models.memory import (
    ActivationBound,
    Keeper,
    available_bytes,
    free_bytes,
    kept_bytes,
)

CPU = torch.device("cpu")
NAMES = [f"thing number {i}" for i in range(40)]


def test_a_pass_that_fits_is_one_piece_and_a_larger_one_is_cut():
    bound = ActivationBound(whole_bytes=800, piece_bytes=100, kept_bytes=10**9)
    assert bound.units(80, 10) == 80
    assert bound.units(81, 10) == 10
    assert bound.units(3, 1000) == 1
    for memory in (1, 100, 2**40):
        asked = ActivationBound.of(CPU, memory)
        assert asked.kept_bytes + asked.piece_bytes == memory


def test_where_a_pass_is_cut_does_not_depend_on_what_is_free(monkeypatch):
    found = []
    for free in (0, 2**40):
        monkeypatch.setattr("pfedmoap.models.memory.free_bytes", lambda device, free=free: free)
        found.append(ActivationBound.of(CPU, None))
    little, much = found
    assert (little.whole_bytes, little.piece_bytes) == (much.whole_bytes, much.piece_bytes)
    assert little.kept_bytes < much.kept_bytes


@pytest.mark.parametrize("shared_prefix", [True, False])
def test_pieces_that_are_computed_again_give_the_same_bits(clip, shared_prefix):
    contexts, weights = torch.randn(2, 4, 32), torch.randn(2, len(NAMES), 128)
    outcomes = []
    for kept in (0, 500_000, 10**9):
        encode = clip.prompt_encoder(NAMES, 4, shared_prefix=shared_prefix)
        encode.bound = ActivationBound(1, 100_000, kept)
        leaf = contexts.clone().requires_grad_()
        with kept_bytes() as count:
            text = encode(leaf)
        (text * weights).sum().backward()
        outcomes.append((count(), text.detach(), leaf.grad))
    (least, text, grad), *others = outcomes
    for bytes_now, values, gradient in others:
        assert torch.equal(values, text)
        assert torch.equal(gradient, grad)
        assert bytes_now > least
    assert outcomes[1][0] < outcomes[2][0]


def test_the_excess_alone_is_computed_again():
    calls = []

    def piece(name, x):
        calls.append(name)
        return x.exp().sum()

    x = torch.ones(4, requires_grad=True)
    keeper = Keeper(room=25)
    total = sum(keeper.run(lambda own, name=name: piece(name, own), 10, x) for name in "abc")
    total.backward()
    assert calls == ["a", "b", "c", "c"]
    calls.clear()
    with torch.no_grad():
        Keeper(room=0).run(lambda own: piece("a", own), 10, x)
    assert calls == ["a"]


def test_free_memory_is_read_from_the_machine(tmp_path):
    assert free_bytes(CPU) > 0
    table = tmp_path / "meminfo"
    table.write_text("MemTotal: 100 kB\nMemAvailable:      64 kB\n")
    assert available_bytes(table) == 64 * 1024
    assert available_bytes(tmp_path / "none") == available_bytes(Path("/nowhere")) > 0


def test_a_container_with_a_limit_has_what_the_limit_leaves(tmp_path, monkeypatch):
    limit, used = tmp_path / "max", tmp_path / "current"
    limit.write_text("5000\n")
    used.write_text("3000\n")
    monkeypatch.setattr("pfedmoap.models.memory.GROUPS", ((str(limit), str(used)),))
    assert free_bytes(CPU) == 2000
    limit.write_text("max\n")
    assert free_bytes(CPU) > 2000


@pytest.mark.gpu
def test_free_memory_of_a_gpu_counts_what_torch_does_not_use():
    device = torch.device("cuda")
    torch.zeros(2**20, dtype=torch.uint8, device=device).sum()  # loads what takes memory once
    torch.cuda.synchronize()
    before = free_bytes(device)
    block = torch.zeros(2**26, dtype=torch.uint8, device=device)
    assert free_bytes(device) <= before - 2**26 + 2**22
    del block
    assert free_bytes(device) >= before - 2**22
