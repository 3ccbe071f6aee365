"""Texts, names, numbers and JSON of the kind that breaks programs.

Invariants:

- What is made here is a valid JSON text, unless it is said to be bent; it may hold what no reader is obliged to take (half a
  surrogate pair, a key that stands twice, numbers without bounds).
- Nothing here knows the program.
"""

import json
import re
from collections.abc import Callable, Sequence

from fuzz.choices import Choices

CANARY = "c4n4ry value"  # stands in values and never in names, and is no code that may be shown: no message may have it

_NAMES = (
    'quo"te', "apo'strophe", "back`tick", "brack]et[", "semi;colon--", 'x" int); drop table Client; --', "line\nfeed", "tab\t",
    "NUL\0", "esc\x1b[2Jape", "bell\a", "bidi\u202eidib", "zero\u200bwidth", "bom\ufeff", "select", "SELECT", "table", "null",
    "rowid", "ROWID", "_rowid_", "oid", "_id", "_n", "_ticks", "__proto__", "sqlite_master", "sqlite_x", "sqlite", "_changes",
    "", " ", "  padded  ", ".", "..", "../../x", "a.b", "%s", "{}", "$", "?", ":a", "@a", "é", "É", "e\u0301", "ß", "SS", "ſ",
    "K", "K", "İ", "i̇", "ı", "\ud800", "\udfff", "😀", "\U0010ffff", "_T", "_L", "T_", "x_T", "x_L", "X", "x", "1", "0",
    "-1", "true", "main", "temp", "main.x", "c0", "seq", "fields", "k", "value", "NexusClient", "NexusAddress", "Client",
    "client", "Sale", "ClientPhone", "clientphone", "Client_Phone_T", "SalePayment_L", "SaleLinePayment", "_once_Client", "[]",
    "ClientPhone[]",
)  # fmt: skip
_TEXTS = (
    "", " ", "a", "0012", "1e5", "NaN", "null", "true", "\0", "a\0b", "\x1b]0;title\a", "\u202e", "\ufeff", "\ud800", "a\udc00b",
    "😀", "\r\n", "'", '"', "';--", "|@|", "|$|", "|@", "$|", "{", "[]", "{}", "[1, 2]", '{"a": 1}', "=1+1", "-", "%00",
    "2026-05-04", "2026-05-04T10:00", "2026-05-04T10:00Z", "2026-05-04T10:00:00.1234567+02:00", "2026-05-04 10:00:00.1 +0200",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.9999999-14:00", "0000-01-01T00:00", "2026-02-30T00:00", "2026-05-04T24:00",
    "2026-05-04T10:00:60Z", "4/5/2019 10:38 AM", "13/13/2019", "5A0C2D6E-0000-4000-8000-000000000002",
    "5a0c2d6e-0000-4000-8000-000000000002", "{5a0c2d6e-0000-4000-8000-000000000002}", "00000000-0000-0000-0000-000000000000",
    "00000000000007D1", "0x00000000000007d1", "AAAAAAAAB9E=", "AAAAAAAAB9E", "٣", "²", "१२", "+1", "1_000", " 1", "1 ", "0x10",
    "1.", ".5", "-.5", "١٢٣٤-٠١-٠١T٠٠:٠٠", "İ", "ﬁ", "7" * 4301, "F" * 16,
    "-" + "7" * 4301, "9" * 20,
)  # fmt: skip
_NUMBERS = (
    "0", "1", "-1", "-0", "-0.0", "2028", "2026", "2052", "2028.0", "20.28e2", "9223372036854775807", "9223372036854775808",
    "-9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616", "1e999999", "-1e999999",
    "1e-999999", "0e999999999999", "1e308", "1.7976931348623159e308", "5e-324", "2e-324", "0.1", "1.10", "12.000000",
    "0.30000000000000004", "9007199254740993", "9007199254740993.0", "1e16", "123456789012345678901234567890", "1E+2", "1e-0000",
    "1e-0005", "0.1e1", "100000000000000000000000", "1.0000000000000000000001", "3.14159265358979323846",
)  # fmt: skip


def name(choices: Choices, usual: Sequence[str]) -> str:
    """Return a name: mostly one of *usual*, at times in other cases, seldom one of those that hurt."""
    if not choices.one_in(4):
        found = choices.among(usual)
        return choices.among((str.upper, str.lower, str.title, str.swapcase))(found) if choices.one_in(8) else found
    if choices.one_in(12):
        return choices.among(("n", "é", "\ud800", '"')) * choices.among((255, 256, 257, 5000))
    return choices.among(_NAMES)


def text(choices: Choices, usual: Sequence[str]) -> str:
    """Return a text: one of *usual*, one of those that hurt, or what the octets give."""
    match choices.below(6):
        case 0 | 1:
            return choices.among(usual)
        case 2 | 3:
            return choices.among(_TEXTS)
        case 4:
            return choices.octets(choices.below(24)).decode("latin-1") + CANARY
        case _:
            return choices.among(_TEXTS) * choices.among((1, 2, 30, 3000)) + choices.among(_TEXTS)


def number(choices: Choices) -> str:
    """Return the digits of a number, as JSON takes them."""
    if not choices.one_in(6):
        return choices.among(_NUMBERS)
    many = choices.among((1, 15, 16, 17, 20, 308, 4299, 4300, 4301, 9000))
    whole = choices.among(("", "-")) + choices.among("123456789") + choices.among("09") * many
    return whole + choices.among(("", ".5", "." + "3" * many, "e5", "e-5", "E+" + "9" * min(many, 30)))


Maker = Callable[[Choices], str]


def scalar(choices: Choices, usual: Sequence[str] = ("Ada",)) -> str:
    """Return a value of JSON that is neither array nor object."""
    match choices.below(8):
        case 0:
            return choices.among(("null", "true", "false"))
        case 1 | 2:
            return number(choices)
        case _:
            return quoted(choices, text(choices, usual))


def value(choices: Choices, levels: int = 3) -> str:
    """Return any value of JSON."""
    if levels == 0 or not choices.one_in(6):
        return scalar(choices)
    if choices.one_in(30):
        depth = choices.among((30, 31, 32, 33, 34, 253, 254, 255, 256, 1100))
        opening, closing = choices.among((("[", "]"), ('{"a":', "}")))
        return opening * depth + "1" + closing * depth
    if choices.below(2):
        return "[" + ",".join(choices.some(lambda: value(choices, levels - 1), 3)) + "]"
    return members(choices, choices.some(lambda: (name(choices, ("a", "b", "A")), value(choices, levels - 1)), 4))


def members(choices: Choices, pairs: Sequence[tuple[str, str]]) -> str:
    """Return the object that has these *pairs*, a name and a JSON text each, however often a name stands there."""
    return "{" + ",".join(f"{quoted(choices, key)}:{inner}" for key, inner in pairs) + "}"


def quoted(choices: Choices, plain: str) -> str:
    """Return *plain* as JSON writes a text, in one of the ways in which it can be written."""
    match choices.below(12):
        case 0:
            return json.dumps(plain)
        case 1:
            return '"' + "".join(f"\\u{unit:04x}" for unit in _units(plain)) + '"'
        case _:
            # As it is, but for half a surrogate pair, which has no octets of its own.
            bare = json.dumps(plain, ensure_ascii=False)
            return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", bare)


def _units(plain: str) -> list[int]:
    octets = plain.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(octets[at : at + 2]) for at in range(0, len(octets), 2)]


_TOKENS = (
    b"NaN", b"Infinity", b"-Infinity", b",", b":", b'"', b"{", b"}", b"[", b"]", b"\\", b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80",
    b"\xef\xbb\xbf", b"\xff\xfe", b"//", b"/**/", b"\\u", b"\\ud800", b"\\u0000", b"1e", b"-", b"01", b".", b"null", b"\n",
    b"\r", b"\x1b", b"[" * 600, b'{"a":' * 600, b"9" * 5000, b"\x1f\x8b", b"|@|", b"|$|", b"|\0@\0|\0", b"|\0$\0|\0", b"'''",
    b'"""', b"=", b"[[", b"#", b"inf", b"0x", b"1979-05-27T07:32:00Z",
)  # fmt: skip


def bent(choices: Choices, octets: bytes) -> bytes:
    """Return *octets* as they are, or in most cases with a few of them cut out, changed, doubled, or something put between."""
    for _ in range(choices.below(4)):
        begin = choices.below(len(octets) + 1)
        end = min(begin + choices.among((0, 1, 2, 3, 8, 40)), len(octets))
        between = choices.among((choices.among(_TOKENS), choices.octets(choices.below(4)), b"", octets[begin:end] * 2))
        octets = octets[:begin] + between + octets[end:]
    return octets
