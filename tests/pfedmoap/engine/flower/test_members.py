"""Names and numbers of sites: kept for good, given once."""

import pytest

from pfedmoap.engine.flower.members import FILE, Members, Profile
from pfedmoap.errors import ConfigError, RunError


def three():
    members = Members()
    for name in ("b", "a", "c"):
        members = members.joined(name, 1, Profile())
    return members


def test_numbers_are_given_in_the_order_of_joining_and_stay():
    members = three().joined("a", 5, Profile((1,), (2,)))
    assert {name: one.client for name, one in members.by_name.items()} == {"b": 0, "a": 1, "c": 2}
    assert members.by_name["a"].joined == 1
    assert members.by_name["a"].profile == Profile((1,), (2,))


def test_a_number_is_not_given_again_and_who_left_comes_back_under_another_name():
    members = three().without(2)
    with pytest.raises(RunError, match="has left"):
        members.joined("c", 4, Profile())
    assert members.joined("d", 4, Profile()).by_name["d"].client == 3
    assert set(members.present) == {0, 1}
    with pytest.raises(RunError, match="no site has the number 9"):
        members.without(9)


def test_the_list_is_read_as_it_was_written(tmp_path):
    members = three().joined("a", 2, Profile((1, 2), (3, 4))).without(0)
    members.write(tmp_path)
    assert Members.read(tmp_path) == members
    assert Members.read(tmp_path / "other") == Members()


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"a": {}}', '{"a/b": {"client": 0}}', '{"a": {"client": -1}}']
)
def test_a_damaged_list_is_refused(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(RunError, match="damaged"):
        Members.read(tmp_path)


def test_a_number_given_twice_is_damage(tmp_path):
    three().write(tmp_path)
    text = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(text.replace('"client": 2', '"client": 0'))
    with pytest.raises(RunError, match="twice"):
        Members.read(tmp_path)


@pytest.mark.parametrize("name", ["", "../x", "a b", "a" * 65, "-a"])
def test_a_name_that_could_be_something_else_is_refused(name):
    with pytest.raises(ConfigError, match="name"):
        Members().joined(name, 1, Profile())
