"""The files of a Starter Export: framing, header, kinds of file, what becomes of a field, what is refused."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from delta_mirror.core.model import Value
from delta_mirror.dds.export import BATCH, BLOCK, LONGEST_ROW, Batch, GivenColumn, read_table
from delta_mirror.dds.export_tables import Kind, facts_of
from delta_mirror.dds.export_values import Column, stored_form
from delta_mirror.errors import ExportError
from rules.counted import counted

BOM = b"\xff\xfe"
FILE = "Tenant11/Location9/ClientNote_20260501.csv"
GUID = "0F0E0D0C-AAAA-4000-8000-00000000000A"


def octets(text: str) -> bytes:
    return BOM + text.encode("utf-16-le", "surrogatepass")


def table(*rows: Sequence[str]) -> str:
    return "".join("|@|".join(row) + "|$|" for row in rows)


def batches_of(
    content: str | bytes, given: Sequence[GivenColumn] = (), name: str = "ClientNote", size: int = 1 << 20
) -> list[Batch]:  # fmt: skip
    whole = octets(content) if isinstance(content, str) else content
    return list(read_table((whole[at : at + size] for at in range(0, len(whole), size)), FILE, facts_of(name), given))


def rows_of(
    content: str | bytes, given: Sequence[GivenColumn] = (), name: str = "ClientNote", size: int = 1 << 20
) -> list[dict[str, Value]]:
    """Return the rows as what they hold, NULL left out."""
    return [
        {name: value for name, value in zip(batch.columns, row, strict=True) if value is not None}
        for batch in batches_of(content, given, name, size)
        for row in batch.rows
    ]


def quoted_value(field: str, column: str = "Column") -> Value | None:
    """Return what is stored of a field in a file that has a header and quotes."""
    [row] = rows_of(table(['"TenantId"', f'"{column}"', '"Text"'], ["11", field, '"words"']))
    return row.get(column)


def bare_value(field: str, kind: Kind | None = None, column: str = "Column") -> Value | None:
    """Return what is stored of a field in a file without header and quotes."""
    [row] = rows_of(table(["11", field, "words"]), ["TenantId", (column, kind) if kind else column, "Text"])
    return row.get(column)


def typed(values: Sequence[Value | None]) -> list[tuple[bool, Value | None]]:
    """Return *values* so that 1 and "1" differ, and 1 and 1.0 do not: SQLite compares them so."""
    return [(isinstance(value, str), value) for value in values]


# ---- the file


def test_file_of_2025_is_read_by_its_header() -> None:
    content = table(['"TenantId"', '"LiabilityLocationId "', '"Note"'], ["11", "9", '"first"'], ["11", "", '""'])
    assert batches_of(content) == [Batch(("TenantId", "LiabilityLocationId", "Note"), [(11, 9, "first"), (11, None, "")], 1)]


def test_file_of_2021_is_read_by_the_columns_that_are_known() -> None:
    content = table(["11", GUID, "said 12"], ["11", GUID, ""])
    assert batches_of(content, name="EmployeeBio") == [
        Batch(
            ("TenantId", "Employee_User_TId", "EmployeeBio"), [(11, GUID.lower(), "said 12"), (11, GUID.lower(), None)], 1, False
        )
    ]


def test_file_without_a_header_is_read_by_the_columns_of_the_configuration() -> None:
    [row] = rows_of(table(["11", "12.500000", "12"]), ["TenantId", ("Total", "number"), "Code"], "Sale")
    assert row == {"TenantId": 11, "Total": 12.5, "Code": "12"}


def test_columns_of_the_configuration_go_before_those_that_are_known() -> None:
    [row] = rows_of(
        table(["11", GUID, "likes hair", "7"]), ["TenantId", "Employee_User_TId", "EmployeeBio", "New"], "EmployeeBio"
    )
    assert row["New"] == "7"


def test_kinds_of_the_configuration_count_for_a_file_with_a_header_too() -> None:
    [row] = rows_of(table(["TenantId", "Total", "Note"], ["11", "12", "words"]), [("Total", "number")])
    assert row == {"TenantId": 11, "Total": 12, "Note": "words"}


@pytest.mark.parametrize("first", ['"TenantId"', "TenantId", '"tenantid "', "TENANTID", '" TenantId"'])
def test_header_is_told_by_its_first_field_however_it_is_spelt(first: str) -> None:
    [batch] = batches_of(table([first, '"EntityId"'], ["11", GUID]))
    assert (batch.columns, len(batch.rows)) == (("TenantId", "EntityId"), 1)


def test_header_is_told_by_its_names_where_another_order_has_come() -> None:
    [batch] = batches_of(table(['"Note"', '"TenantId"'], ['"x"', "11"]))
    assert batch.columns == ("Note", "TenantId")


def test_names_that_the_program_understands_get_their_spelling() -> None:
    [batch] = batches_of(table(['"TENANTID"', '"client_tid"', '"dateupdated"', '"Odd Name"'], ["11", GUID, "", ""]))
    assert batch.columns == ("TenantId", "Client_TId", "DateUpdated", "Odd Name")


def test_table_with_nothing_but_the_mark_has_no_batch() -> None:
    assert batches_of(BOM) == []


def test_table_with_a_header_and_no_rows_has_its_columns() -> None:
    assert batches_of(table(['"TenantId"', '"Note"'])) == [Batch(("TenantId", "Note"), [], 1)]


def test_line_feeds_quotes_and_single_marks_within_text_are_text() -> None:
    text = 'said "hello",\r\nthen | and @ and $ and |@ and $| and ""'
    [row] = rows_of(table(['"TenantId"', '"Note"', '"More"'], ["11", f'"{text}"', '"x"']))
    assert row["Note"] == text


@pytest.mark.parametrize("text", ["𝄞 clef", "Chloé", "名前", "\ufeffmark", "nul\0inside", "\x01"])
def test_any_text_comes_through(text: str) -> None:
    content = table(['"TenantId"', '"Note"', '"More"'], ["11", f'"{text}"', '"x"'])
    for size in (1, 2, 3, 7):
        assert rows_of(content, size=size)[0]["Note"] == text


@given(
    width=st.integers(1, 4),
    fields=st.lists(st.sampled_from(["$", "@", "|", "", "x", "$x", "x$", "@@", "12"]), max_size=40),
    size=st.sampled_from([2, 6, 10, 1 << 20]),
)
@example(width=3, fields=["x", "$", "y"], size=2)
@example(width=2, fields=["x", "$"], size=1 << 20)
@example(width=2, fields=["@", "$", "$", "@"], size=2)
def test_fields_without_quotes_may_be_the_letters_of_the_marks(width: int, fields: list[str], size: int) -> None:
    rows = [fields[at : at + width] for at in range(0, len(fields) - width + 1, width)]
    content = octets(table(*rows))
    names: list[GivenColumn] = [(f"Column{number}", "text") for number in range(width)]
    read = [row for batch in batches_of(content, names, size=size) for row in batch.rows]
    assert read == [tuple(field or None for field in row) for row in rows]


def test_rows_come_in_batches_that_are_numbered_on() -> None:
    count = 2 * BATCH + 5
    content = table(['"TenantId"', '"Place"'], *(["11", str(place)] for place in range(count)))
    batches = batches_of(content)
    assert max(len(batch.rows) for batch in batches) <= BATCH
    assert [row[1] for batch in batches for row in batch.rows] == list(range(count))
    at = 1
    for batch in batches:
        assert batch.first_row == at
        at += len(batch.rows)


def test_table_of_one_column_is_read() -> None:
    assert rows_of(table(['"TenantId"'], ["11"], ["12"])) == [{"TenantId": 11}, {"TenantId": 12}]


# ---- what becomes of a field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("", None),
        ('""', ""),
        ('"02134"', "02134"),
        ('"12"', "12"),
        (f'"{GUID}"', GUID),
        ('"2026-05-01 10:00:00"', "2026-05-01 10:00:00"),
        ('"a "b" c"', 'a "b" c'),
        ('""quoted""', '"quoted"'),
        ('"', '"'),
        ('"open', '"open'),
        ('close"', 'close"'),
        ("12", 12),
        ("-7", -7),
        ("0", 0),
        ("02134", "02134"),
        (".500000", 0.5),
        ("-.500000", -0.5),
        ("12.000000", 12),
        ("42.500000", 42.5),
        ("1.", "1."),
        ("1_000", "1_000"),
        (" 12", " 12"),
        ("+5", "+5"),
        ("١٢", "١٢"),
        ("nan", "nan"),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", "9223372036854775808"),
        (".1234567890123456789", ".1234567890123456789"),
        ("00000000070000A1", "00000000070000A1"),
        ("1234567890123456", "1234567890123456"),
        ("1000000000000E10", "1000000000000E10"),
        (GUID, GUID.lower()),
        (GUID[:-1], GUID[:-1]),
        ("2026-05-01", "2026-05-01"),
        ("2026-05-01 10:11:12.1234567 +02:00", "2026-05-01T10:11:12.1234567+02:00"),
        ("2026-05-01 10:11:12.123 -05:30", "2026-05-01T10:11:12.1230000-05:30"),
        ("2026-05-01 10:11:12 +00:00", "2026-05-01T10:11:12+00:00"),
        ("2026-05-01 10:11:12", "2026-05-01T10:11:12"),
        ("2026-02-30 10:11:12", "2026-02-30 10:11:12"),
        ("2026-05-01 24:11:12", "2026-05-01 24:11:12"),
        ("10:11:12", "10:11:12"),
        ("True", "True"),
    ],
)
def test_field_of_a_file_with_quotes(field: str, value: Value | None) -> None:
    assert typed([quoted_value(field)]) == typed([value])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("", None),
        ("12", "12"),
        ("02134", "02134"),
        (".500000", ".500000"),
        ('"Bob"', '"Bob"'),
        ('""', '""'),
        ("00000000070000A1", "00000000070000A1"),
        (GUID, GUID.lower()),
        (f"{GUID} or so", f"{GUID} or so"),
        ("2026-05-01 10:11:12.1234567 +02:00", "2026-05-01T10:11:12.1234567+02:00"),
        ("from 2026-05-01 10:11:12", "from 2026-05-01 10:11:12"),
    ],
)
def test_field_of_a_file_without_quotes(field: str, value: Value | None) -> None:
    found = bare_value(field)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("number", "12", 12),
        ("number", ".500000", 0.5),
        ("number", "1234567890123456", 1234567890123456),
        ("number", "02134", "02134"),
        ("number", "twelve", "twelve"),
        ("text", GUID, GUID),
        ("text", "2026-05-01 10:00:00", "2026-05-01 10:00:00"),
        ("text", "", None),
        ("guid", GUID, GUID.lower()),
        ("guid", "12", "12"),
        ("datetime", "2026-05-01 10:00:00", "2026-05-01T10:00:00"),
        ("version", "00000000070000a1", "00000000070000A1"),
        ("version", "0x00000000070000a1", "00000000070000A1"),
        ("version", "AAAAAAcAAKE=", "00000000070000A1"),
        ("any", "12", "12"),
    ],
)
def test_kind_decides_in_a_file_without_quotes(kind: Kind, field: str, value: Value | None) -> None:
    found = bare_value(field, kind)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize("field", ["00000000070000a1", '"00000000070000a1"', "117440673", '"AAAAAAcAAKE="'])
def test_row_version_has_one_form_whether_it_stands_in_quotes_or_not(field: str) -> None:
    assert quoted_value(field, "EntityVersion") == "00000000070000A1"


@pytest.mark.parametrize("column", ["TenantId", "GenderEnum", "IsMinor", "Sale_Seq"])
def test_column_that_is_known_to_hold_numbers_does_so_without_quotes(column: str) -> None:
    header = ["11", "1", "words"]
    [row] = rows_of(table(header), ["TenantId" if column != "TenantId" else "LocationId", column, "Text"])
    assert row[column] == 1


def test_words_without_quotes_show_that_a_file_has_none_even_under_a_header_in_quotes() -> None:
    [row] = rows_of(table(['"TenantId"', '"ZipNew"', '"Name"'], ["11", "12345", "Ada Example"]))
    assert row == {"TenantId": 11, "ZipNew": "12345", "Name": "Ada Example"}


def test_nickname_in_quotes_does_not_make_a_file_a_quoted_one() -> None:
    rows = rows_of(table(["11", "12345", '"Bo"'], ["11", "12345", "Ada Example"]), ["TenantId", "ZipNew", "NickName2"])
    assert rows[0] == {"TenantId": 11, "ZipNew": "12345", "NickName2": '"Bo"'}


def test_file_in_quotes_is_told_without_a_header() -> None:
    [row] = rows_of(table(["11", "12", '"words"']), ["TenantId", "Count", "Note"])
    assert row == {"TenantId": 11, "Count": 12, "Note": "words"}


# ---- whole columns

DATE_TIMES = [
    f"{day} {hour}:{minute}:{second}{rest}"
    for day in ("2026-05-01", "2026-02-30", "0000-01-01", "2026+05-01", "2026-05+01", "2026-05-0a")
    for hour in ("00", "19", "23", "24", "30")
    for minute in ("00", "59", "60")
    for second in ("00", "61")
    for rest in (".1234567 +02:00", ".1234567 -14:59", ".1234567 +15:00", ".1234567 +02:60", "", " -05:00", ".1234567")
]

_FIELDS = st.one_of(
    st.sampled_from(
        [
            "",
            "0",
            "7",
            "-7",
            "-0",
            "00",
            "12.500000",
            ".5",
            "-.5",
            "5.",
            "0.5",
            "00.5",
            "-",
            "1-2",
            "1.2.3",
            "1|2",
            "|",
            '"',
            '""',
        ]
    ),
    st.integers(-(10**20), 10**20).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**12), max_value=10**12).map(
        lambda number: f"{number:f}".replace("0.", ".", 1)
    ),
    st.uuids().map(lambda key: str(key).upper()),
    st.uuids().map(lambda key: str(key)[:-1] + "g"),
    st.dates().map(str),
    st.datetimes().map(lambda moment: f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond * 10:07} +02:00".rjust(34, "0")),
    st.sampled_from(DATE_TIMES),
    st.integers(0, (1 << 64) - 1).map("{:016X}".format),
    st.integers(0, (1 << 64) - 1).map("{:016x}".format),
    st.text(max_size=8).map(lambda text: f'"{text}"'),
    st.text(max_size=8),
).filter(lambda field: "|@|" not in f"x{field}|@x" and "|$|" not in f"{field}|$")

_KINDS = st.sampled_from(["text", "number", "guid", "datetime", "version", "any"])


@settings(max_examples=400)
@given(kind=_KINDS, quoted=st.booleans(), fields=st.lists(_FIELDS, min_size=1, max_size=6), copies=st.integers(1, 3))
def test_column_converted_whole_is_as_converted_field_by_field(
    kind: Kind, quoted: bool, fields: list[str], copies: int
) -> None:  # fmt: skip
    column = Column(kind, quoted=quoted)
    expected = typed([stored_form(field, kind, quoted=quoted) for field in fields * copies])
    assert typed(column.stored(fields * copies)) == expected
    assert typed(column.stored(fields * 12 * copies)) == expected * 12  # recurring
    assert typed(column.stored(fields * copies)) == expected


_ALIKE = st.one_of(
    *(
        st.lists(strategy, min_size=1, max_size=12)
        for strategy in (
            st.uuids().map(lambda key: str(key).upper()),
            st.integers(-99999, 99999).map(str),
            st.integers(-99999, 99999).map(lambda cents: f"{cents / 100:.6f}".replace("0.", ".", 1)),
            st.datetimes().map(lambda moment: f"{moment.isoformat(' ', 'seconds')}.{moment.microsecond * 10:07} -03:30"),
            st.dates().map(str),
            st.text(max_size=5).map(lambda text: f'"{text}"'),
            st.text(alphabet="ab:-|", min_size=1, max_size=40),
            st.integers(0, (1 << 64) - 1).map("{:016X}".format),
        )
    )
)


@settings(max_examples=400)
@given(kind=_KINDS, quoted=st.booleans(), fields=_ALIKE, odd=st.lists(st.tuples(st.integers(0, 12), _FIELDS), max_size=1))
def test_column_of_like_fields_with_an_odd_one_is_as_converted_field_by_field(
    kind: Kind, quoted: bool, fields: list[str], odd: list[tuple[int, str]]
) -> None:
    for place, field in odd:
        fields.insert(place, field)
    expected = [stored_form(field, kind, quoted=quoted) for field in fields]
    assert typed(Column(kind, quoted=quoted).stored(fields)) == typed(expected)


@pytest.mark.parametrize("quoted", [True, False])
def test_one_odd_date_time_among_others_is_found(quoted: bool) -> None:
    for odd in DATE_TIMES:
        good = f"2026-05-01 10:11:12{odd[19:]}".replace("15:", "14:").replace(":60", ":30")
        fields = [good, odd, good]
        assert Column("any", quoted=quoted).stored(fields) == [stored_form(field, "any", quoted=quoted) for field in fields]


@pytest.mark.parametrize(
    ("field", "kind", "quoted", "stored"),
    [
        *(("", kind, quoted, None) for kind in ("text", "number", "version", "any") for quoted in (True, False)),
        *(('""', kind, True, "") for kind in ("text", "number", "version", "any")),
        *(('"2001"', kind, True, "2001") for kind in ("text", "number", "any")),
        ('"2001"', "version", True, "00000000000007D1"),
        ('"2001"', "any", False, '"2001"'),
        ('"', "any", True, '"'),
        ('"a', "any", True, '"a'),
        (f'"{GUID}"', "any", True, GUID),
        ("2001", "version", True, "00000000000007D1"),
        ("00000000000007d1", "version", False, "00000000000007D1"),
        ("00000000000007d1", "any", True, "00000000000007d1"),
        ("1234567890123456", "any", True, "1234567890123456"),
        ("1234567890123456", "number", True, 1234567890123456),
        ("2001", "text", True, "2001"),
        ("2001", "any", True, 2001),
        ("2001", "any", False, "2001"),
        ("2001", "number", False, 2001),
        (".500000", "number", False, 0.5),
        ("0012", "number", True, "0012"),
        (GUID, "any", True, GUID.lower()),
        (GUID, "number", False, GUID.lower()),
        (GUID, "text", False, GUID),
        ("2026-05-01 10:11:12 +02:00", "any", False, "2026-05-01T10:11:12+02:00"),
        ("2026-05-01 10:11:12 +02:00", "text", True, "2026-05-01 10:11:12 +02:00"),
        ("2026-05-01", "any", True, "2026-05-01"),
    ],
)
def test_field_is_stored_by_its_kind_its_quotes_and_its_looks(field: str, kind: Kind, quoted: bool, stored: Value | None) -> None:
    assert typed([stored_form(field, kind, quoted=quoted)]) == typed([stored])
    assert typed(Column(kind, quoted=quoted).stored([field, field])) == typed([stored, stored])


def test_text_loses_its_quotes_also_behind_some_that_has_none() -> None:
    assert Column("text", quoted=True).stored(["abc", '"x"', '""', '"']) == ["abc", "x", "", '"']


@pytest.mark.parametrize("rest", ["", ".1234567", " +02:00", ".1234567 -05:00"])
@pytest.mark.parametrize(
    "odd",
    [
        *("2026-05-01 24:00:00", "2026-05-01 30:00:00", "2026-05-01 20:60:00", "2026-05-01 20:00:60", "2026-02-30 20:00:00"),
        *("2026-05-01 23:59:59", "2026-05-01 19:00:00", "2026-05-01-20:00:00", "2026-05-01 20-00-00", "0000-05-01 20:00:00"),
    ],
)
def test_one_odd_time_of_day_among_others_is_found(odd: str, rest: str) -> None:
    good = f"2026-05-01 20:00:00{rest}"
    for fields in ([good, odd + rest, good], [good, good, odd + rest], [odd + rest, good, good]):
        expected = [stored_form(field, "any", quoted=True) for field in fields]
        assert Column("any", quoted=True).stored(fields) == expected


ODD_INTEGERS = [
    "-0",
    "00",
    "07",
    "-00",
    "-07",
    "-",
    "--7",
    "7-",
    "1-2",
    "999999999999999",
    "9999999999999999",
    "9" * 19,
    "9" * 20,
]
ODD_DECIMALS = [
    *(
        "-.5",
        ".5",
        "0.5",
        "00.5",
        "-0.5",
        "-00.5",
        "-01.5",
        "01.5",
        "5.",
        "-5.",
        ".",
        "-.",
        "1.2.3",
        "1.2-3",
        "7",
        "0",
        "-0",
        "1|2.5",
    ),
    *(
        "12345678.1234567",
        "123456789.1234567",
        "8477069.917320517",
        "481496200916.81627",
        "9007199254740992.5",
        "9007199254740993.5",
    ),
]


@pytest.mark.parametrize("kind", ["number", "any"])
@pytest.mark.parametrize(("good", "odd"), [*(("7", odd) for odd in ODD_INTEGERS), *(("7.5", odd) for odd in ODD_DECIMALS)])
def test_one_odd_number_among_others_is_found(kind: Kind, good: str, odd: str) -> None:
    for fields in ([good, odd, good], [good, good, odd], [odd, good, "-8" + good]):
        expected = [stored_form(field, kind, quoted=True) for field in fields]
        assert typed(Column(kind, quoted=True).stored(fields)) == typed(expected)


MOMENTS = ["2026-05-01 23:59:59", "2026-12-31 00:00:00", "2026-05-01 19:30:05", "2026-05-01 20:01:00"]
OFFSETS = [" +02:00", " -14:00", " +00:00", " -03:30"]


@pytest.mark.parametrize(
    ("kind", "quoted", "fields"),
    [
        *(("any", quoted, [GUID, GUID[:-1] + "B", GUID[:-1].lower() + "c"]) for quoted in (True, False)),
        ("number", False, ["7", "-12", "0", "999999999999999", "-99999999999999"]),
        ("any", True, ["7", "", "-12", "0", "999999999999999"]),
        ("number", False, ["7.500000", ".500000", "-.500000", "0.5", "-0.5", "123456789.123456", "-12345678.12345"]),
        ("any", True, ["7.5", ".5", "", "0.25", "-12345678.12345", "123456789.123456"]),
        *(("any", quoted, ["2026-05-01", "2026-12-31", "2026-05-02"]) for quoted in (True, False)),
        *(("any", quoted, MOMENTS) for quoted in (True, False)),
        ("any", True, [f"{moment}.1234567" for moment in MOMENTS]),
        ("any", True, [moment + offset for moment, offset in zip(MOMENTS, OFFSETS, strict=True)]),
        ("datetime", False, [f"{moment}.1234567{offset}" for moment, offset in zip(MOMENTS, OFFSETS, strict=True)]),
        ("text", True, ['"a"', '"b|c"', '""', '"""', '"d"']),
        ("any", True, ['"a"', "", '"2001"', '"x"']),
        ("text", False, ["a", '"b"', "2001", GUID]),
        ("any", False, ["a b", "c|d", "12:30", "x"]),
        ("any", False, ["a-b", "c", "2001", "x"]),
        *(("version", quoted, ["00000000000007D1", "00000000000007D2", "FFFFFFFFFFFFFFFF"]) for quoted in (True, False)),
    ],
)
def test_column_of_one_form_is_converted_without_a_call_for_each_field(kind: Kind, quoted: bool, fields: list[str]) -> None:
    column = Column(kind, quoted=quoted)
    with counted("stored_form") as calls:
        found = column.stored(fields)

    assert calls.number == 0
    assert typed(found) == typed([stored_form(field, kind, quoted=quoted) for field in fields])


# ---- any content, any chunks

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(
    lambda text: "|@|" not in f'"{text}"' and "|$|" not in f'"{text}"'
)
_VALUES = st.one_of(
    st.none(),
    _TEXT,
    st.integers(-(2**63), 2**63 - 1).filter(lambda number: len(str(number)) != 16),
    st.integers(-(10**9), 10**9).map(lambda cents: cents / 1000),
    st.uuids().map(str),
)


def written(value: Value | None) -> str:
    """Return *value* as a field of a file with quotes, by other means than the simulator's."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.upper() if len(value) == 36 and value.count("-") == 4 else f'"{value}"'
    return str(value) if isinstance(value, int) else f"{value:.6f}"


@settings(max_examples=200)
@given(
    width=st.integers(1, 5),
    values=st.lists(_VALUES, max_size=40),
    cuts=st.lists(st.integers(1, 40), max_size=20),
)
@example(width=2, values=["|", "$|", "|$", "@|", "|@", "|"], cuts=[1, 1])
def test_rows_come_back_as_they_were_written_however_they_are_cut(
    width: int, values: list[Value | None], cuts: list[int]
) -> None:  # fmt: skip
    rows = [tuple(values[at : at + width]) for at in range(0, len(values) - width + 1, width)]
    names = ["TenantId", "First", "Second", "Third", "Fourth"][:width]
    content = octets(table([f'"{name}"' for name in names], *([written(value) for value in row] for row in rows)))

    def chunks() -> Iterator[bytes]:
        at = 0
        for size in cuts:
            yield content[at : at + size]
            at += size
        yield content[at:]

    found = [row for batch in read_table(chunks(), FILE, facts_of("ClientNote"), ()) for row in batch.rows]
    assert [typed(row) for row in found] == [typed(row) for row in rows]


@pytest.mark.parametrize("before", range(11))
def test_what_stands_at_the_border_of_two_blocks_is_read_as_anywhere_else(before: int) -> None:
    head, tail = table(['"TenantId"', '"A"']) + '1|@|"', '𝄞"|$|$|2|@|"y"|$|'
    pad = (BLOCK - len(BOM)) // 2 - len(head) - before
    rows = rows_of(head + "x" * pad + tail)
    assert rows == [{"TenantId": 1, "A": "x" * pad + "𝄞"}, {"TenantId": "$|2", "A": "y"}]


@pytest.mark.parametrize("size", [BLOCK - 5, BLOCK, BLOCK + 5, 2 * BLOCK + 7, 4 * BLOCK])
def test_chunks_that_are_larger_than_a_block_and_no_whole_number_of_them_are_read_once(size: int) -> None:
    notes = [str(number) * (BLOCK // 10) for number in range(12)]
    rows = rows_of(table(['"TenantId"', '"Note"'], *(["11", f'"{note}"'] for note in notes)), size=size)
    assert [row["Note"] for row in rows] == notes


@pytest.mark.parametrize("before", range(14))
def test_a_letter_of_the_marks_at_the_border_of_two_blocks_is_a_field(before: int) -> None:
    pad = (BLOCK - len(BOM)) // 2 - before
    rows = rows_of("x" * pad + "|@|$|@|$|$|a|@|$|@|@|$|", ["A", "B", "C"])
    assert rows == [{"A": "x" * pad, "B": "$", "C": "$"}, {"A": "a", "B": "$", "C": "@"}]


# ---- what is refused


def refusal_of(
    content: str | bytes, given: Sequence[GivenColumn] = (), name: str = "ClientNote", size: int = 1 << 20
) -> str:  # fmt: skip
    with pytest.raises(ExportError) as caught:
        batches_of(content, given, name, size)
    message = str(caught.value)
    assert message.startswith(FILE)
    assert "Ada" not in message
    return message


HEADER = ['"TenantId"', '"Note"']
AGAIN = "Fetch the file again; if it stays so, ask the vendor for a new export."
RELOAD = "Ask the vendor what the columns of the file are, and for a new export."
CUT_OFF = f"is cut off: every row ends in |$|, and this one does not. {AGAIN}"


@pytest.mark.parametrize("size", [1, 5, 1 << 20])
@pytest.mark.parametrize(
    "tail", ["11|@|", "11|@|Ada", '11|@|"Ada Example"', '11|@|"Ada"|', '11|@|"Ada"|$', "1", "\n"]
)  # fmt: skip
def test_file_that_is_cut_off_inside_a_row_is_refused_with_the_row(tail: str, size: int) -> None:
    message = refusal_of(table(HEADER, ["11", '"x"'], ["11", '"y"']) + tail, size=size)
    assert message == f"{FILE}, row 3: {CUT_OFF}"


def test_file_that_is_cut_off_inside_a_character_is_refused() -> None:
    assert refusal_of(octets(table(HEADER, ["11", '"x"'])) + b"1") == f"{FILE}, row 2: {CUT_OFF}"
    assert refusal_of(octets(table(HEADER, ["11", '"x"'])) + "𝄞".encode("utf-16-le")[:2]) == f"{FILE}, row 2: {CUT_OFF}"


@pytest.mark.parametrize(
    ("row", "count"), [(["11"], 1), (["11", '"a"', '"Ada"'], 3), (["11", '"a|@|b"'], 3), (['"a|$|11', '"b"'], 1)]
)
def test_row_with_a_wrong_number_of_columns_is_refused_by_its_number(row: list[str], count: int) -> None:
    good = [["11", f'"{place}"'] for place in range(BATCH + 3)]
    message = refusal_of(table(HEADER, *good, row, ["11", '"x"']))
    assert message == f"{FILE}, row {len(good) + 1}: its number of columns is {count}, not 2. {AGAIN}"


def test_rows_that_lack_and_exceed_by_as_much_are_refused() -> None:
    assert "row 1" in refusal_of(table(HEADER, ["11", '"a"', '"b"'], ["11"]))
    assert "row 2" in refusal_of(table([*HEADER, '"C"'], ["11", '"a"', '"b"'], ["11"], ["11"], ["11", "1", "2"]))
    assert "row 1" in refusal_of(table([*HEADER, '"C"'], ["11", '"a"'], ["11", '"b"'], ["11", '"c"', '"d"']))


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\xff", b"TenantId,Note\r\n", b"11|@|x|$|", "11|@|x|$|".encode("utf-16-le")),
        *(b"\xef\xbb\xbf11|@|x|$|", b"\xfe\xff" + "11|@|x|$|".encode("utf-16-be")),
    ],
)
def test_what_is_not_utf_16_with_its_mark_is_refused(content: bytes) -> None:
    said = f"is not UTF-16 with a byte order mark in front, as every file of an export is. {AGAIN}"
    assert refusal_of(content, ["TenantId", "Note"]) == f"{FILE}: {said}"


@pytest.mark.parametrize("half", [b"\x00\xd8", b"\x00\xdc"])
def test_half_a_surrogate_pair_is_refused_with_its_row(half: bytes) -> None:
    content = octets(table(HEADER, ["11", '"x"']) + '11|@|"Ada ') + half + 'a"|$|'.encode("utf-16-le")
    for size in (1, 3, 1 << 20):
        said = f"row 2: holds half a surrogate pair, which is no text. {AGAIN}"
        assert refusal_of(content, size=size) == f"{FILE}, {said}"


@pytest.mark.parametrize(
    "names", [['"TenantId"', '"Note"', '"note"'], ['"TenantId"', '"Note"', '"Note "'], ['"TenantId"', '"x"', '"tenantid"']]
)
def test_two_columns_that_are_one_are_refused_by_name(names: list[str]) -> None:
    one, other = ("TenantId", "TenantId") if "tenantid" in names[2] else (names[1].strip('"'), names[2].strip('" '))
    assert refusal_of(table(names)) == f"{FILE}: has two columns that are one: {one!r} and {other!r}. {RELOAD}"


def test_columns_that_differ_beyond_ascii_are_two() -> None:
    [row] = rows_of(table(['"TenantId"', '"É"', '"é"'], ["11", '"a"', '"b"']))
    assert (row["É"], row["é"]) == ("a", "b")


@pytest.mark.parametrize("name", ['""', '" "', '"a\0b"', "\0"])
def test_column_whose_name_cannot_be_stored_is_refused(name: str) -> None:
    said = f"{FILE}: has a column without a name that could be stored. {RELOAD}"
    assert refusal_of(table(['"TenantId"', name])) == said


@pytest.mark.parametrize(("name", "shown"), [('"_id"', "_id"), ("_Note", "_Note"), ('" _x"', "_x")])
def test_column_that_is_named_like_one_of_the_mirror_is_refused(name: str, shown: str) -> None:
    said = f"has the column {shown!r}; names that begin with an underscore are the mirror's own. {RELOAD}"
    assert refusal_of(table(['"TenantId"', name])) == f"{FILE}: {said}"


def test_file_without_a_header_whose_columns_are_not_known_says_what_to_configure() -> None:
    message = refusal_of(table(["11", GUID, "1"]), name="SaleLine_Service_L")
    advice = "Name all of them in file order in the configuration, under [starter.columns] as SaleLineService = [...]."
    assert message == f"{FILE}: has no header, and its 3 columns are not known in full. {advice}"


@pytest.mark.parametrize("given", [(), ["TenantId", "EmployeeBio"]])
def test_file_without_a_header_that_has_more_columns_than_are_known_says_what_to_configure(given: list[GivenColumn]) -> None:
    message = refusal_of(table(["11", GUID, "likes hair", "new"]), given, "EmployeeBio")
    advice = "Name all of them in file order in the configuration, under [starter.columns] as EmployeeBio = [...]."
    assert message == f"{FILE}, row 1: its number of columns is 4, not {len(given) or 3}. {advice}"


def test_row_without_an_end_is_refused_before_it_fills_the_memory() -> None:
    def chunks() -> Iterator[bytes]:
        yield octets(table(HEADER, ["11", '"x"']))
        for _ in range(LONGEST_ROW):
            yield b"A\0" * (1 << 19)

    with pytest.raises(ExportError, match="row 2: goes on for more than 8,388,608 characters without an end of the row"):
        list(read_table(chunks(), FILE, facts_of("ClientNote")))


def test_row_that_is_one_empty_field_is_a_row() -> None:
    assert [batch.rows for batch in batches_of("|$|", ["TenantId"])] == [[(None,)]]
    assert [batch.rows for batch in batches_of(table(["TenantId"]) + "|$||$|")] == [[(None,), (None,)]]


def test_rows_of_equal_width_are_not_split_one_by_one() -> None:
    with counted("_split_row_by_row") as calls:
        found = rows_of(table(HEADER, ["11", '"a"'], ["11", '"$ |"'], ["11", ""]))

    assert calls.number == 0
    assert found == [{"TenantId": 11, "Note": "a"}, {"TenantId": 11, "Note": "$ |"}, {"TenantId": 11}]
