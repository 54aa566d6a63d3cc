"""The tool that runs the suite on other versions: what it asks for, and what it keeps."""

from tools.compatibility import dependencies, read_page, write_page


def test_a_column_is_replaced_and_the_others_stay():
    old = {
        "latest, Python 3.12": {"passed": "9", "torch": "2.9"},
        "locked, Python 3.11": {"passed": "8", "torch": "2.8", "numpy": "2.1"},
    }
    page = write_page({**read_page(write_page(old)), "latest, Python 3.12": {"passed": "10"}})
    found = read_page(page)
    assert found["locked, Python 3.11"] == old["locked, Python 3.11"]
    assert found["latest, Python 3.12"] == {"passed": "10", "torch": "-", "numpy": "-"}
    assert read_page("") == {}


def test_extras_of_the_package_itself_are_not_asked_for():
    names = {one.name for one in dependencies()}
    assert {"torch", "transformers", "pytest"} <= names
    assert "pfedmoap" not in names
