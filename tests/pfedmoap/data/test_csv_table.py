"""Images listed in a CSV file: columns, paths below the table, and errors that name the line."""

import numpy as np
import pytest
from PIL import Image

from pfedmoap.data.csv_table import CSVTable
from pfedmoap.errors import DataError


@pytest.fixture
def table(tmp_path):
    """Write a table of text, and a tiny image for each file that it names."""

    def write(text, images=12):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        for number in range(images):
            colour = (20 * number, 255 - 20 * number, 7)
            Image.new("RGB", (8, 8), colour).save(tmp_path / "pictures" / f"{number}.png")
        (tmp_path / "list.csv").write_text(text, encoding="utf-8-sig")
        return CSVTable(str(tmp_path / "list.csv"))

    return write


def rows(columns, *lines):
    return "\n".join([columns, *lines]) + "\n"


FOUR = ("pictures/0.png,cat", "pictures/1.png,dog", "pictures/2.png,cat", "pictures/3.png,dog")


def test_paths_are_relative_to_the_table_and_classes_are_sorted(table):
    dataset = table(rows("image,label", *FOUR)).read()
    assert dataset.class_names == ("cat", "dog")
    assert dataset.labels.tolist() == [0, 1, 0, 1]
    assert dataset.load(2).getpixel((0, 0)) == (40, 215, 7)
    assert dataset.groups is None
    assert dataset.domains is None
    assert [int(dataset.is_test[dataset.labels == label].sum()) for label in (0, 1)] == [1, 1]


def test_all_columns_in_any_order_with_spaces_and_others_beside_them(table, caplog):
    lines = [
        f"{'train' if i % 2 else 'Test'}, p{i // 3} ,site {i % 2},pictures/{i}.png,{'ab'[i // 6]},4"
        for i in range(12)
    ]
    dataset = table(rows("split,group,site,image,label,age", *lines)).read()
    assert dataset.is_test.tolist() == [True, False] * 6
    assert dataset.groups.tolist() == [i // 3 for i in range(12)]
    assert dataset.domain_names == ("site 0", "site 1")
    assert "the columns age are not used" in caplog.text
    assert "groups have images for training and for testing" in caplog.text


def test_without_a_split_whole_people_are_held_out(table, caplog):
    lines = [f"pictures/{i}.png,{'ab'[i // 6]},{i // 2}" for i in range(12)]
    dataset = table(rows("image,label,group", *lines)).read()
    for label in (0, 1):
        mine = dataset.labels == label
        people = dataset.groups[mine]
        held = set(people[dataset.is_test[mine]])
        assert len(held) == 1
        assert not held & set(people[~dataset.is_test[mine]])
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column image and no column label: its first row is empty"),
        (rows("image,class", *FOUR), "no column label: its first row is image, class"),
        (rows("Image,Label", *FOUR), "its first row is Image, Label; .* in lower case"),
        (rows("PK" * 200, *FOUR), r"its first row is (PK){150} \.\.\.; expected"),
        (rows("image,label"), "lists no image"),
        (
            rows("image,label,image", *(f"{one},x" for one in FOUR)),
            r"the columns \['image'\] twice",
        ),
        (rows("image,label,site,domain", "a,b,c,d"), "a column domain and a column site"),
        (rows("image,label", *FOUR, "pictures/4.png"), r"line 6 .* cells \(1\) .* \(2\)"),
        (rows("image,label", *FOUR, "pictures/4.png,cat,x"), r"line 6 .* cells \(3\)"),
        (rows("image,label,group", "pictures/0.png,cat,"), "line 2: group must not be empty"),
        (rows("image,label", *FOUR, FOUR[0]), "line 6: pictures/0.png is in line 2 already"),
        (rows("image,label,split", "pictures/0.png,cat,tset"), "split is 'tset', expected train"),
        (rows("image,label,split", "pictures/0.png,cat,val"), "split names val alone"),
        (rows("image,label", "pictures/none.png,cat"), "pictures/none.png: no such file"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(table, text, message):
    with pytest.raises(DataError, match=message):
        table(text).read()


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_any_spreadsheet_are_read(table, tmp_path, separator):
    """With Windows' line ends, a mark of the byte order, and what a locale takes for a comma."""
    made = table("", images=4)
    lines = "\r\n".join(["image,label", *FOUR, ""]).replace(",", separator)
    (tmp_path / "list.csv").write_bytes(lines.encode("utf-8-sig"))
    assert made.read().class_names == ("cat", "dog")
    (tmp_path / "list.csv").write_bytes(lines.replace("cat", "Käfer").encode("latin-1"))
    with pytest.raises(DataError, match=r"is not UTF-8 \(byte \d+\); save it anew"):
        made.read()


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none.csv cannot be read as a CSV file"):
        CSVTable(str(tmp_path / "none.csv")).read()


def test_images_that_cannot_be_read_are_named_with_the_table(table, tmp_path):
    for name in ("x.png", "y.png"):
        (tmp_path / name).write_bytes(b"no image")
    broken = ("x.png,cat", "y.png,cat")
    named = r"\.csv: 2 of 2 images that it lists cannot be read: x\.png: not an image; y\.png: not"
    with pytest.raises(DataError, match=named):
        table(rows("image,label", *broken)).read()
    lost = r"\.csv: no image of \['bird'\] can be read; mend .* remove their rows: x\.png: not an"
    with pytest.raises(DataError, match=lost):
        table(rows("image,label", *FOUR, "x.png,bird")).read()


def test_the_same_table_gives_the_same_division(table):
    reader = table(rows("image,label,group", *(f"{one},{i}" for i, one in enumerate(FOUR))))
    np.testing.assert_array_equal(reader.read().is_test, reader.read().is_test)
