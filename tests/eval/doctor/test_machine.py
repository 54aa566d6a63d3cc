"""Versions, lock and cache: what is in order, and what is said where it is not."""

import re
from importlib.metadata import version

import pytest

from eval.doctor.machine import look_at_cache, look_at_lock, look_at_machine, look_at_versions


def test_this_installation_and_machine_are_sound(tmp_path):
    found = {finding.name: finding for finding in look_at_machine("cpu", str(tmp_path / "cache"))}
    assert set(found) >= {"pfedmoap", "versions", "device", "feature cache"}
    assert {finding.status for finding in found.values()} <= {"ok", "note"}
    assert re.search(r"cpu, \d+ cores, .* free", found["device"].found)
    assert "0 entries, 0 B" in found["feature cache"].found
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("requirements", "status", "said"),
    [
        (["numpy>=1", 'no-such-package>=1; extra == "serve"'], "ok", "not installed: serve"),
        (["numpy>=1", 'no-such-package>=1; extra == "dev"'], "ok", "1 packages"),
        (["numpy>=1", 'x>=1; python_version < "3"'], "ok", "1 packages"),
        (["numpy<1"], "wrong", f"numpy {version('numpy')} is not <1"),
        (["no-such-package>=2"], "wrong", "no-such-package is missing (needs >=2)"),
    ],
)
def test_versions_are_held_against_their_ranges(requirements, status, said):
    found = look_at_versions(requirements)
    assert found.status == status
    assert said in found.found


def test_versions_that_are_not_the_locks_are_noted(tmp_path):
    lock = tmp_path / "requirements.lock"
    assert look_at_lock(lock) is None
    there = version("numpy")
    lock.write_text(f"# a lock\nnumpy=={there} \\\n    --hash=sha256:0\nabsent==1 \\\n")
    assert look_at_lock(lock).status == "ok"
    lock.write_text("numpy==0.1 ; python_version >= '3' \\\nscipy==0.1 ; python_version < '3' \\\n")
    found = look_at_lock(lock)
    assert (found.status, found.found) == ("note", f"other versions: numpy {there} (lock: 0.1)")


def test_a_device_or_a_cache_that_cannot_be_used_is_wrong(tmp_path):
    found = {finding.name: finding for finding in look_at_machine("tpu:9", str(tmp_path))}
    assert found["device"].status == "wrong"
    (tmp_path / "file").write_text("")
    refused = look_at_cache(str(tmp_path / "file" / "cache"))
    assert refused.status == "wrong"
    assert "--features.cache" in refused.remedy
