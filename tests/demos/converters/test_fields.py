import numpy as np
import pytest

from demos.converters.fields import FieldSource, check_known, parse_fields
from robot_rlpd.errors import ConfigError, DataError
from robot_rlpd.specs import ArraySpec

POINT = ArraySpec(name="point", shape=(2,))


@pytest.mark.parametrize(
    ("text", "start", "stop"), [("a/b", 0, None), ("a/b[2:4]", 2, 4), ("a/b[2:]", 2, None), ("a/b[3]", 3, 4)]
)
def test_a_source_is_a_dataset_or_some_of_its_entries(text: str, start: int, stop: int | None) -> None:
    assert FieldSource.parse(text, field="x") == FieldSource(dataset="a/b", start=start, stop=stop)


@pytest.mark.parametrize("text", ["", "a[", "a[]", "a[-1]", "a[1:2:3]", "a[b]"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"DATASET\[a:b\]"):
        FieldSource.parse(text, field="x")


def test_entries_are_taken_in_the_dtype_of_the_field() -> None:
    rows = np.arange(12.0).reshape(3, 4)
    taken = FieldSource.parse("x[1:3]", field="point").take(rows, POINT)
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, rows[:, 1:3])


@pytest.mark.parametrize(("source", "shape"), [("x", (9, 3)), ("x[0:3]", (9, 5)), ("x[4:6]", (9, 5))])
def test_a_part_of_another_size_is_refused_naming_the_field(source: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="field 'point' does not fit"):
        FieldSource.parse(source, field="point").check(shape, np.dtype("float32"), POINT)


def test_text_and_broken_numbers_for_whole_ones_are_refused() -> None:
    whole = ArraySpec(name="count", shape=(), dtype="int32")
    with pytest.raises(DataError, match="dtype"):
        FieldSource(dataset="x").check((9,), np.dtype("float32"), whole)
    with pytest.raises(DataError, match="dtype"):
        FieldSource(dataset="x").check((9, 2), np.dtype("S3"), POINT)


@pytest.mark.parametrize("entries", [["goal"], ["=x"], ["goal="], ["goal=x", "goal=y"]])
def test_a_field_option_that_is_not_name_equals_source_is_refused(entries: list[str]) -> None:
    with pytest.raises(ConfigError):
        parse_fields(entries)


def test_an_unknown_name_is_refused_listing_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="allowed: point, goal"):
        check_known(parse_fields(["gaol=x"]), ["point", "goal"])
