"""Tokens are read from files, and only loopback is open to everybody who reaches it."""

import pytest

from pfedmoap.errors import ConfigError
from pfedmoap.serving.place import is_loopback, read_token


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no token"),
        (b"too-short", "at least 16"),
        (b"with white space in it", "without white space"),
        ("sixteen lettérs!".encode(), "ASCII"),
        (b"\xff" * 20, "cannot be read"),
    ],
)
def test_what_is_no_token(content, message, tmp_path):
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_token(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(tmp_path / "absent")


def test_white_space_around_a_token_does_not_count(tmp_path):
    file = tmp_path / "token"
    file.write_text("\n 0123456789abcdef \n")
    assert read_token(file) == "0123456789abcdef"


def test_what_only_this_machine_reaches():
    assert all(map(is_loopback, ("127.0.0.1", "127.8.0.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.0.2.1", "example.org", "")))
