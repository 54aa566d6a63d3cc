"""Digests are those that everybody else's SHA-256 makes."""

import pytest

from pfedmoap.storage.digests import sha256, sha256_of_file

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1


def test_digests_are_those_of_the_standard(tmp_path):
    assert sha256(b"abc") == ABC
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "file") == ABC


def test_a_file_of_several_pieces_has_the_digest_of_its_content(tmp_path):
    content = bytes(range(256)) * 4096  # 1 MiB; the standard library reads 256 KiB at a time
    (tmp_path / "file").write_bytes(content)
    assert sha256_of_file(tmp_path / "file") == sha256(content)
    with pytest.raises(FileNotFoundError):
        sha256_of_file(tmp_path / "missing")
