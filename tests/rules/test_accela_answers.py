"""What Accela answers, read: tokens, contacts, errors, and for how long to wait."""

from collections.abc import Mapping

import pytest

from delta_mirror.accela.answers import Answer, Grant, asked_pause, escaped, read_contact, read_grant, read_refusal, read_told
from delta_mirror.accela.contact import Contact
from delta_mirror.accela.exact import Digits
from delta_mirror.accela.push_plan import Accepted, Refusal
from delta_mirror.calls.attempts import LONGEST_STOP
from delta_mirror.errors import ProtocolError

NOW = 1_777_896_000.0  # 2026-05-04T12:00:00Z
NOON = "Mon, 04 May 2026 12:00:00 GMT"
PAGE = "<html>log in</html>"
NOT_JSON = r"^the answer is not the service's own JSON \(status {status}\); a gateway or a login page answers in its place$"


def answer(body: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, body.encode(), headers or {}, NOW)


@pytest.mark.parametrize(
    ("id_", "path"),
    [("253", "253"), ("A-1/2", "A.11.32"), (". -%/&#", ".0.c.1.2.3.d.e"), ("é", "é"), ("", "")],
)
def test_reserved_characters_of_an_id_stand_in_a_path_by_escapes_of_their_own(id_: str, path: str) -> None:
    assert escaped(id_) == path


# Tokens


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"access_token":"abc","refresh_token":"def","expires_in":3600}', Grant("abc", 3_640.0, "def")),
        ('{"access_token":"abc","refresh_token":"def","expires_in":" 3600 "}', Grant("abc", 3_640.0, "def")),
        ('{"access_token":"abc","expires_in":60}', Grant("abc", 130.0, "")),
        ('{"access_token":"abc","expires_in":120,"refresh_token":null}', Grant("abc", 160.0, "")),
        ('{"access_token":"abc"}', Grant("abc", 940.0, "")),
        ('{"access_token":"abc","expires_in":0}', Grant("abc", 940.0, "")),
        ('{"access_token":"abc","expires_in":"soon","refresh_token":""}', Grant("abc", 940.0, "")),
        ('{"access_token":"abc","expires_in":-1}', Grant("abc", 940.0, "")),
    ],
)
def test_a_token_is_renewed_a_minute_or_half_its_life_before_its_end(body: str, expected: Grant) -> None:
    assert read_grant(answer(body), 100.0) == expected


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"access_token":null}',
        '{"access_token":""}',
        '{"access_token":"a b"}',
        '{"access_token":"a\\n"}',
        '{"token":"abc"}',
    ],
)
def test_an_answer_without_a_token_that_a_header_can_carry_is_refused(body: str) -> None:
    with pytest.raises(ProtocolError, match=r"holds none that can be sent; check accela\.auth_url$"):
        read_grant(answer(body), 100.0)


# Contacts


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"status":200,"result":[{"id":"253","a":1.10}]}', {"id": "253", "a": Digits("1.10")}),
        ('{"result":{"id":"253"}}', {"id": "253"}),
        ('{"result":[{"id":"254"},{"id":"253","a":null}]}', {"id": "253", "a": None}),
        ('{"result":[{"a":"x"}]}', {"a": "x"}),
        ('{"result":{"id":null,"a":"x"}}', {"id": None, "a": "x"}),
    ],
)
def test_a_contact_is_the_one_that_was_asked_for_or_comes_alone_without_an_id(body: str, expected: Contact) -> None:
    assert read_contact(answer(body), "253") == expected


@pytest.mark.parametrize("body", ['{"result":[]}', '{"result":null}', '{"status":200}', "{}"])
def test_an_answer_without_any_contact_says_that_it_is_gone(body: str) -> None:
    trace = {"x-accela-traceid": "t-1"}
    assert read_contact(answer(body, headers=trace), "253") == Refusal(404, "resource_not_found", "t-1")


@pytest.mark.parametrize(
    "body",
    [
        '{"result":[{"id":"254"}]}',
        '{"result":[{"id":"254"},{"a":"x"}]}',
        '{"result":[{"a":"x"},{"a":"y"}]}',
        '{"result":[{}]}',
        '{"result":"253"}',
        '{"result":[null,"253"]}',
    ],
)
@pytest.mark.parametrize(("headers", "trace"), [({"x-accela-traceid": "t-1"}, "t-1"), ({}, "it bears none")])
def test_another_contact_is_neither_the_one_asked_for_nor_a_refusal(body: str, headers: Mapping[str, str], trace: str) -> None:
    with pytest.raises(
        ProtocolError, match=rf"^the answer holds another contact than the one .* can be read \(traceId {trace}\)$"
    ):
        read_contact(answer(body, headers=headers), "253")


def test_refusal_comes_before_what_else_stands_in_the_answer() -> None:
    body = '{"status":404,"code":"gone","result":[{"id":"253"}]}'
    assert read_contact(answer(body), "253") == Refusal(404, "gone")


# Errors


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, "{}", None),
        (204, '{"status":200}', None),
        (200, '{"status":"200"}', None),
        (200, '{"status":399}', None),
        (200, '{"status":600}', None),
        (200, '{"code":"fine"}', None),
        (200, '{"error":"x","access_token":"abc"}', None),
        (200, '{"error":"x","result":[]}', None),
        (200, '{"error":"not a code"}', None),
        (200, '{"status":400}', Refusal(400, "status_400")),
        (200, '{"status":"599","code":"odd"}', Refusal(599, "odd")),
        (201, '{"error":"invalid_grant"}', Refusal(400, "invalid_grant")),
        (200, '{"status":500,"code":"a","error":"b"}', Refusal(500, "a")),
        (400, '{"code":"data_validation_error","traceId":"t-2"}', Refusal(400, "data_validation_error", "t-2")),
        (400, '{"error":"invalid_request"}', Refusal(400, "invalid_request")),
        (401, '{"status":500,"code":"no_token"}', Refusal(401, "no_token")),
        (403, '{"code":"Ann Example, 5 Main Street"}', Refusal(403, "status_403")),
        (403, '{"code":7,"traceId":8}', Refusal(403, "status_403")),
        (403, f'{{"code":"{"x" * 64}"}}', Refusal(403, "x" * 64)),
        (403, f'{{"code":"{"x" * 65}"}}', Refusal(403, "status_403")),
        (502, PAGE, Refusal(502, "status_502")),
        (302, "", Refusal(302, "status_302")),
        (500, "[]", Refusal(500, "status_500")),
    ],
)
def test_an_error_is_told_by_its_status_and_code_whether_it_comes_with_success_or_not(
    status: int, body: str, expected: Refusal | None
) -> None:
    assert read_refusal(answer(body, status)) == expected


def test_trace_of_the_header_comes_before_that_of_the_body() -> None:
    body = '{"code":"x","traceId":"t-2"}'
    assert read_refusal(answer(body, 400, {"x-accela-traceid": "t-1"})) == Refusal(400, "x", "t-1")
    assert read_refusal(answer(body, 400, {"x-accela-traceid": "no trace"})) == Refusal(400, "x", "t-2")


def test_fields_that_the_message_names_as_whole_words_are_told_and_nothing_else_of_it() -> None:
    body = '{"code":"x","message":"gender Q is no value; address.city is too long; see myemail, type_2"}'
    fields = ("firstName", "gender", "address.city", "address.zip", "email", "type")
    refusal = read_refusal(answer(body, 400), fields)
    assert refusal == Refusal(400, "x", None, ("gender", "address.city"))
    assert str(refusal) == "x (status 400), naming gender, address.city"
    assert read_refusal(answer('{"code":"x","message":["gender"]}', 400), fields) == Refusal(400, "x")


@pytest.mark.parametrize("body", [PAGE, "", "[]", '"x"', "null"])
@pytest.mark.parametrize("status", [200, 204, 299])
def test_what_is_no_answer_of_the_service_is_refused_where_its_status_is_one_of_success(body: str, status: int) -> None:
    for read in (read_refusal, lambda each: read_told(each, ()), lambda each: read_grant(each, 1.0)):
        with pytest.raises(ProtocolError, match=NOT_JSON.format(status=status)):
            read(answer(body, status))


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, "{}", Accepted("t-1")),
        (200, '{"status":200,"result":{"id":"253"}}', Accepted("t-1")),
        (200, '{"status":500,"code":"emse_error"}', Accepted("t-1", "emse_error")),
        (500, '{"status":500,"code":"emse_error"}', Refusal(500, "emse_error", "t-1")),
        (200, '{"status":400,"code":"x","message":"email"}', Refusal(400, "x", "t-1", ("email",))),
        (503, PAGE, Refusal(503, "status_503", "t-1")),
    ],
)
def test_a_script_that_fails_behind_a_write_is_no_refusal_of_it(status: int, body: str, expected: Accepted | Refusal) -> None:
    assert read_told(answer(body, status, {"x-accela-traceid": "t-1"}), ("email",)) == expected


# Pauses


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "Mon, 04 May 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Mon, 04 May 2026 12:00:30 GMT", "date": "Mon, 04 May 2026 12:00:20 GMT"}, 10.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:09 GMT", "date": "Thu, 01 Jan 1970 00:00:00 GMT"}, 9.0),
        ({"x-ratelimit-reset": "90"}, 90.0),
        ({"x-ratelimit-reset": " 90 "}, 90.0),
        ({"x-ratelimit-reset": "soon"}, None),
        ({"x-ratelimit-reset": f"{NOW + 45:.0f}"}, 45.0),
        ({"x-ratelimit-reset": f"{(NOW + 45) * 1000:.0f}"}, 45.0),
        ({"x-ratelimit-reset": f"{NOW - 45:.0f}"}, 0.0),
        ({"x-ratelimit-reset": "999999999"}, LONGEST_STOP),
        ({"x-ratelimit-reset": "1000000000"}, 0.0),
        ({"x-ratelimit-reset": "999999999999"}, LONGEST_STOP),
        ({"x-ratelimit-reset": "1000000000000"}, 0.0),
        ({"retry-after": "7", "x-ratelimit-reset": "90"}, 7.0),
        ({"retry-after": "later", "x-ratelimit-reset": "90", "date": NOON}, 90.0),
    ],
)
def test_a_pause_is_as_long_as_either_header_says_whichever_way_it_counts(
    headers: Mapping[str, str], seconds: float | None
) -> None:
    assert asked_pause(answer("{}", 429, headers)) == seconds
