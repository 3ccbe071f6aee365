"""One value, one form, wherever it came from."""

import base64
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delta_mirror.core.model import Instant, Value
from delta_mirror.core.values import (
    DAY,
    EPOCH,
    HOUR,
    MINUTE,
    SECOND,
    is_guid,
    offset_of,
    offset_ticks,
    plain_date_time,
    plain_number,
    plain_row_version,
    read_instant,
    read_ticks,
    write_ticks,
)

MICROSECOND = 10  # ticks
END_OF_YEAR_9998 = (datetime(9999, 1, 1) - datetime(1, 1, 1)).days * DAY  # noqa: DTZ001 - only the days between
OFFSETS = st.integers(-14 * 60, 14 * 60).map(
    lambda minutes: f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
)

# Ticks


@pytest.mark.parametrize(
    ("text", "ticks"),
    [
        ("0001-01-01T00:00:00Z", 0),
        ("0001-01-01T00:00:00.0000001Z", 1),
        ("1970-01-01T00:00:00Z", EPOCH),
        ("1970-01-01", None),
        ("1970-01-01T00:00", EPOCH),
        ("1970-01-01 00:00:01", EPOCH + SECOND),
        ("1970-01-01T00:00:00.5", EPOCH + SECOND // 2),
        ("1970-01-01T00:00:00.12345678999", EPOCH + 1_234_567),
        ("1970-01-01T00:00:00+01:00", EPOCH - HOUR),
        ("1970-01-01 00:00:00.0000000 -05:30", EPOCH + 5 * HOUR + 30 * MINUTE),
        ("1970-01-01T00:00:00+0530", EPOCH - 5 * HOUR - 30 * MINUTE),
        ("2024-02-29T23:59:59.9999999Z", EPOCH + 19_783 * DAY - 1),
        ("2023-02-29T00:00:00Z", None),
        ("0000-01-01T00:00:00Z", None),
        ("2024-13-01T00:00:00Z", None),
        ("2024-01-01T24:00:00Z", None),
        ("2024-01-01T00:60:00Z", None),
        ("2024-01-01T00:00:60Z", None),
        ("2024-01-01T00:00:00.Z", None),
        ("2024-01-01T00:00:00Z ", None),
        ("2024-01-01T00:00:00Z\n", None),
        (" 2024-01-01T00:00:00Z", None),
        ("2024-01-01T00:00:00z", None),
        ("2024-01-01T00:00:00,5Z", None),
        ("٢٠٢٤-01-01T00:00:00Z", None),
        ("10", None),
        ("", None),
    ],
)
def test_date_time_is_read_to_the_tick_or_not_at_all(text: str, ticks: int | None) -> None:
    assert read_ticks(text) == ticks


@given(st.datetimes(timezones=st.just(UTC)))
def test_ticks_are_those_of_datetime_where_datetime_can(moment: datetime) -> None:
    since = moment - datetime(1, 1, 1, tzinfo=UTC)
    ticks = since // timedelta(microseconds=1) * MICROSECOND
    assert read_ticks(moment.isoformat()) == ticks
    assert datetime.fromisoformat(write_ticks(ticks)) == moment


@given(
    moment=st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)),  # noqa: DTZ001 - the zone is drawn beside it
    minutes=st.integers(-14 * 60, 14 * 60),
)
def test_offset_is_heeded_as_datetime_heeds_it(moment: datetime, minutes: int) -> None:
    there = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    since = there - datetime(1, 1, 1, tzinfo=UTC)
    assert read_ticks(there.isoformat()) == since // timedelta(microseconds=1) * MICROSECOND


@given(ticks=st.integers(DAY, END_OF_YEAR_9998), offset=OFFSETS | st.just("Z") | st.just(""))
def test_what_is_written_reads_as_the_same_ticks(ticks: int, offset: str) -> None:
    text = write_ticks(ticks, offset)
    assert read_ticks(text) == ticks
    assert offset_of(text) == offset
    assert len(text) == len("2021-05-04T00:00:00.0000000") + len(offset)


@given(ticks=st.lists(st.integers(DAY, END_OF_YEAR_9998), min_size=2, max_size=2), offset=OFFSETS)
def test_texts_at_one_offset_sort_as_their_ticks(ticks: list[int], offset: str) -> None:
    assert sorted(ticks) == [read_ticks(text) for text in sorted(write_ticks(each, offset) for each in ticks)]


def test_ticks_are_written_as_the_service_echoes_them() -> None:
    assert write_ticks(EPOCH) == "1970-01-01T00:00:00.0000000+00:00"
    assert write_ticks(EPOCH + 1, "-05:00") == "1969-12-31T19:00:00.0000001-05:00"
    assert write_ticks(EPOCH, "Z") == "1970-01-01T00:00:00.0000000Z"


@given(st.text(max_size=40) | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?", fullmatch=True))
def test_no_text_is_too_odd_to_be_read_as_none(text: str) -> None:
    ticks = read_ticks(text)
    assert (ticks is None) == (plain_date_time(text) is None)
    assert ticks is None or isinstance(ticks, int)


@pytest.mark.parametrize(
    ("offset", "ticks"),
    [("", 0), ("Z", 0), ("+00:00", 0), ("-00:00", 0), ("+05:30", 330 * MINUTE), ("-0500", -5 * HOUR), ("+14:00", 14 * HOUR)],
)
def test_offset_in_ticks(offset: str, ticks: int) -> None:
    assert offset_ticks(offset) == ticks


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("2021-05-04T00:00:00.0000000+00:00", "+00:00"),
        ("2021-05-04T00:00:00Z", "Z"),
        ("2021-05-04T00:00:00", ""),
        ("2021-05-04 00:00 -0500", "-0500"),
        ("yesterday", ""),
    ],
)
def test_offset_of_a_date_time_is_as_it_stands_there(text: str, offset: str) -> None:
    assert offset_of(text) == offset


def test_instant_keeps_the_text_of_the_service() -> None:
    text = "2021-05-04T12:00:00.1234567-05:00"
    assert read_instant(text) == Instant(read_ticks(text) or 0, text)


@pytest.mark.parametrize("text", [None, 20210504, 1.5, True, ["2021-05-04T00:00:00Z"], "2021-05-04", "soon"])
def test_what_is_no_date_time_is_no_instant(text: object) -> None:
    assert read_instant(text) is None


# What is stored


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("2021-05-04 12:00:00.5 -05:00", "2021-05-04T12:00:00.5000000-05:00"),
        ("2021-05-04T12:00:00.1234567Z", "2021-05-04T12:00:00.1234567+00:00"),
        ("2021-05-04T12:00:00.12345678Z", "2021-05-04T12:00:00.1234567+00:00"),
        ("2021-05-04 12:00:00", "2021-05-04T12:00:00"),
        ("2021-05-04 12:00", "2021-05-04T12:00"),
        ("2021-05-04T12:00:00-0500", "2021-05-04T12:00:00-05:00"),
        ("2021-05-04T12:00:00+00:00", "2021-05-04T12:00:00+00:00"),
        ("2021-05-04", None),
        ("2021-02-30 12:00:00", None),
        ("2021-05-04T12:00:00Z or later", None),
        ("since 2021-05-04T12:00:00Z", None),
        ("12:00", None),
        ("", None),
    ],
)
def test_date_time_is_stored_in_one_form(text: str, stored: str | None) -> None:
    assert plain_date_time(text) == stored


@given(ticks=st.integers(DAY, END_OF_YEAR_9998), offset=OFFSETS | st.just("Z"))
def test_stored_form_is_the_same_instant_and_its_own_stored_form(ticks: int, offset: str) -> None:
    stored = plain_date_time(write_ticks(ticks, offset).replace("T", " "))
    assert stored is not None
    assert read_ticks(stored) == ticks
    assert plain_date_time(stored) == stored


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0f8fad5b-d9cb-469f-a165-70867728950e", True),
        ("0F8FAD5B-D9CB-469F-A165-70867728950E", True),
        ("{0f8fad5b-d9cb-469f-a165-70867728950e}", False),
        ("0f8fad5bd9cb469fa16570867728950e", False),
        ("0f8fad5b-d9cb-469f-a165-70867728950e\n", False),
        ("0f8fad5b-d9cb-469f-a165-70867728950g", False),
        ("", False),
    ],
)
def test_guid_is_wholly_one(text: str, expected: bool) -> None:
    assert is_guid(text) is expected


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("00000000000007D1", "00000000000007D1"),
        ("00000000000007d1", "00000000000007D1"),
        ("0x00000000000007D1", "00000000000007D1"),
        ("AAAAAAAAB9E=", "00000000000007D1"),
        (2001, "00000000000007D1"),
        ("2001", "00000000000007D1"),
        ("000200100", "0000000000030DA4"),
        ("000", "0000000000000000"),
        ("0" * 30 + "2001", "00000000000007D1"),
        (0, "0000000000000000"),
        ((1 << 64) - 1, "F" * 16),
        ("18446744073709551615", "F" * 16),
        (1 << 64, "18446744073709551616"),
        ("18446744073709551616", "18446744073709551616"),
        (-1, "-1"),
        (1.5, "1.5"),
        ("", ""),
        ("v7", "v7"),
        ("AAAAAAAAB9E", "AAAAAAAAB9E"),
        ("AAAA AAAB9E=", "AAAA AAAB9E="),
        ("ÄAAAAAAAB9E=", "ÄAAAAAAAB9E="),
        ("AAA!!!!AAA8=", "AAA!!!!AAA8="),
        ("AAAAAAAAAAAA", "AAAAAAAAAAAA"),
        ("B9E=", "B9E="),
        ("²", "²"),
    ],
)
def test_row_version_is_sixteen_hex_digits_however_it_came(value: Value, stored: str) -> None:
    assert plain_row_version(value) == stored


@given(st.integers(0, (1 << 64) - 1))
def test_row_version_is_one_and_the_same_from_a_number_hex_and_base64(number: int) -> None:
    raw = number.to_bytes(8, "big")
    forms = {
        plain_row_version(number),
        plain_row_version(raw.hex()),
        plain_row_version("0x" + raw.hex()),
        plain_row_version(base64.b64encode(raw).decode()),
    }
    assert forms == {raw.hex().upper()}


@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=2, max_size=2))
def test_row_versions_compare_as_text(numbers: list[int]) -> None:
    assert [plain_row_version(number) for number in sorted(numbers)] == sorted(plain_row_version(number) for number in numbers)


@given(st.text(max_size=20) | st.integers() | st.floats(allow_nan=False))
def test_no_row_version_is_a_number(value: Value) -> None:
    stored = plain_row_version(value)
    assert isinstance(stored, str)
    assert plain_row_version(stored) == stored or stored.isdigit()


# Numbers


@pytest.mark.parametrize(
    ("digits", "stored"),
    [
        ("0", 0),
        ("12", 12),
        ("-12", -12),
        ("-0", 0),
        ("0012", "0012"),
        ("+12", "+12"),
        ("12.000000", 12.0),
        (".500000", 0.5),
        ("-.500000", -0.5),
        ("0.1", 0.1),
        ("1.10", 1.1),
        ("1e3", 1000.0),
        ("1E-2", 0.01),
        ("9223372036854775807", (1 << 63) - 1),
        ("9223372036854775808", "9223372036854775808"),
        ("-9223372036854775808", -(1 << 63)),
        ("-9223372036854775809", "-9223372036854775809"),
        ("9" * 5_000, "9" * 5_000),
        ("0.1234567890123456789", "0.1234567890123456789"),
        ("12345678901234567.5", "12345678901234567.5"),
        ("1e999", "1e999"),
        ("1e-999", "1e-999"),
        ("1e99999999999999999999", "1e99999999999999999999"),
        ("1.", "1."),
        (".", "."),
        ("-", "-"),
        ("", ""),
        ("1,5", "1,5"),
        (" 1", " 1"),
        ("1\n", "1\n"),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("٣", "٣"),
    ],
)
def test_number_is_one_where_it_can_be_given_back(digits: str, stored: Value) -> None:
    found = plain_number(digits)
    assert found == stored
    assert type(found) is type(stored)


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_every_integer_of_sixty_four_bits_is_one(number: int) -> None:
    assert plain_number(str(number)) == number


@given(st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: number != int(number) or abs(number) < 1e15))
def test_every_double_is_given_back_as_it_was_written(number: float) -> None:
    found = plain_number(json.dumps(number))
    assert isinstance(found, float)
    assert found == number


@given(st.from_regex(r"-?\d{1,25}(\.\d{1,25})?", fullmatch=True))
def test_no_digit_of_a_number_is_lost(digits: str) -> None:
    found = plain_number(digits)
    if isinstance(found, str):
        assert found == digits
    elif isinstance(found, int):
        assert str(found) == digits or digits in ("-0", "0")
    else:
        whole, _, fraction = digits.partition(".")
        assert len((whole + fraction).lstrip("-0").rstrip("0")) <= 17


@pytest.mark.parametrize("offset", ["+99:99", "+15:00", "-14:60", "+1:00"])
def test_offset_that_no_zone_has_makes_no_date_time(offset: str) -> None:
    assert read_ticks(f"2026-05-04T12:00:00{offset}") is None
