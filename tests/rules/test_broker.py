"""What the broker says with a message: who it is, where it is settled, for how long it is ours."""

import json

import pytest

from delta_mirror.errors import ProtocolError
from delta_mirror.nexus.broker import LONGEST_LOCK, USUAL_LOCK, Answer, read_lock, read_locked, subscription_path

BASE = "https://nowhere.servicebus.windows.net/client-profiles/subscriptions/county"
PATH = "/client-profiles/subscriptions/county"
NOW = 1_777_896_000.0  # 2026-05-04T12:00:00Z
PROPERTIES: dict[str, object] = {
    "DeliveryCount": 3,
    "EnqueuedTimeUtc": "Mon, 04 May 2026 11:59:00 GMT",
    "LockToken": "7da9cfd5-40d5-4bb1-8d64-ec5a52e1c547",
    "LockedUntilUtc": "Mon, 04 May 2026 12:01:00 GMT",
    "MessageId": "31907572164743c38741631acd554d6f",
    "SequenceNumber": 31,
}
OWN = f"{PATH}/messages/31/7da9cfd5-40d5-4bb1-8d64-ec5a52e1c547"


def answer(properties: object = PROPERTIES, received: float = NOW, body: bytes = b"{}", **headers: str) -> Answer:
    found = {"date": "Mon, 04 May 2026 12:00:00 GMT", "location": f"{BASE}/messages/31/lock", **headers}
    if properties is not None:
        found["brokerproperties"] = properties if isinstance(properties, str) else json.dumps(properties)
    return Answer(201, body, {name: value for name, value in found.items() if value}, received)


def test_message_comes_with_its_names_its_place_and_its_lock() -> None:
    locked = read_locked(answer(body=b'{"a": 1}'), BASE)
    assert locked.delivery == (b'{"a": 1}', "31907572164743c38741631acd554d6f", 31)
    assert locked.target == f"{PATH}/messages/31/lock"
    assert (locked.seconds, locked.times, locked.is_dead) == (60.0, 3, False)


@pytest.mark.parametrize(
    ("location", "target"),
    [
        (f"{BASE}/messages/31/lock", f"{PATH}/messages/31/lock"),
        (f"{BASE}/messages/31/lock?api-version=2017-04", f"{PATH}/messages/31/lock?api-version=2017-04"),
        ("https://NOWHERE.servicebus.windows.net:443/other/messages/31/lock", "/other/messages/31/lock"),
        (f"{PATH}/messages/31/lock", f"{PATH}/messages/31/lock"),
        ("messages/31/lock", f"{PATH}/messages/31/lock"),
        ("//nowhere.servicebus.windows.net/locks/31", "/locks/31"),
        # Behind a gateway, or by a slip: never to another host, and never without TLS.
        ("https://elsewhere.example/CLIENT-profiles/subscriptions/county/messages/31/lock", f"{PATH}/messages/31/lock"),
        ("http://nowhere.servicebus.windows.net/messages/31/lock", f"{PATH}/messages/31/lock"),
        ("https://nowhere.servicebus.windows.net:8443/messages/a b/lock", f"{PATH}/messages/a%20b/lock"),
        ("https://elsewhere.example/messages/a%20b/lo%2Fck", f"{PATH}/messages/a%20b/lo%2Fck"),
        (f"{BASE}/messages/31/l\u00f6ck", f"{PATH}/messages/31/l\u00f6ck"),
        (f"{PATH}/messages/31/l\u00f6ck", f"{PATH}/messages/31/l%C3%B6ck"),
        ("https://elsewhere.example/messages//lock", OWN),
        ("https://elsewhere.example/messages/31/lock/x", OWN),
        ("https://nowhere.servicebus.windows.net.example/other/31/lock", OWN),
        ("https://nowhere.servicebus.windows.net@elsewhere.example/other/31/lock", OWN),
        ("https://elsewhere.example/messages/31", OWN),
        ("https://[elsewhere/messages/31/lock", OWN),
        ("", OWN),
    ],
)
def test_message_is_settled_at_the_configured_host_whatever_address_is_named(location: str, target: str) -> None:
    assert read_locked(answer(location=location), BASE).target == target


def test_this_machine_by_another_of_its_names_is_the_same_host() -> None:
    base = "http://127.0.0.1:8080/client-profiles/subscriptions/county"
    assert read_locked(answer(location="http://localhost:8080/locks/31"), base).target == "/locks/31"
    assert read_locked(answer(location="http://localhost:8081/locks/31"), base).target == OWN


def test_where_nothing_but_another_host_is_named_its_parts_are_put_under_our_own() -> None:
    locked = read_locked(answer(None, location="https://elsewhere.example/x/messages/31/lock"), BASE)
    assert locked.target == f"{PATH}/messages/31/lock"
    assert locked.delivery == (b"{}", None, None)


@pytest.mark.parametrize("location", ["", "https://elsewhere.example/", "https://elsewhere.example/messages/31"])
def test_message_that_could_not_be_settled_is_refused(location: str) -> None:
    said = r"where it is to be completed \(status 201\): neither Location nor BrokerProperties can be used\. "
    for properties in (
        {"MessageId": "m"},
        {"MessageId": "m", "LockToken": ""},
        {"MessageId": "m", "LockToken": 7},
        {"LockToken": "t"},
    ):
        with pytest.raises(
            ProtocolError, match=said + r"Check nexus\.service_bus_url, and what stands between here and the broker\.$"
        ):
            read_locked(answer(properties, location=location), BASE)


def test_message_without_a_number_is_settled_by_its_name() -> None:
    assert (
        read_locked(answer({"LockToken": "t/1 ", "MessageId": "m/2 "}, location=""), BASE).target
        == f"{PATH}/messages/m%2F2%20/t%2F1%20"
    )


@pytest.mark.parametrize(
    ("properties", "found"),
    [
        ({"messageid": "m", "SEQUENCENUMBER": 5}, ("m", 5)),  # keys in any case
        ({"MessageId": "m", "SequenceNumber": "5"}, ("m", 5)),
        ({"MessageId": "", "SequenceNumber": -1}, (None, None)),
        ({"MessageId": 7, "SequenceNumber": 2**63}, (None, None)),
        ({"SequenceNumber": 0}, (None, 0)),
        ({"SequenceNumber": 2**63 - 1}, (None, 2**63 - 1)),
        ({"SequenceNumber": str(2**63 - 1)}, (None, 2**63 - 1)),
        ({"SequenceNumber": str(2**63)}, (None, None)),
        ({"SequenceNumber": "0" * 19 + "5"}, (None, None)),
        ({"SequenceNumber": "\u0665"}, (None, None)),
        ({"SequenceNumber": True}, (None, None)),
        ({"SequenceNumber": 1.5}, (None, None)),
        ("not JSON", (None, None)),
        ("[1]", (None, None)),
    ],
)
def test_what_cannot_be_read_of_the_properties_is_missing(properties: object, found: tuple[str | None, int | None]) -> None:
    assert read_locked(answer(properties), BASE).delivery[1:] == found


def test_properties_in_utf_8_are_read_as_such() -> None:
    header = json.dumps({"MessageId": "m\u00e4rz"}, ensure_ascii=False).encode().decode("latin-1")
    assert read_locked(answer(header), BASE).delivery.message_id == "m\u00e4rz"
    assert read_locked(answer('{"MessageId": "m\u20ac"}'), BASE).delivery.message_id == "m?"


@pytest.mark.parametrize(
    ("until", "date", "received", "seconds"),
    [
        ("Mon, 04 May 2026 12:01:00 GMT", "Mon, 04 May 2026 12:00:40 GMT", NOW, 20.0),
        ("2026-05-04T12:01:00.0000000Z", "Mon, 04 May 2026 12:00:40 GMT", NOW, 20.0),
        # Our clock is wrong, and it does not matter; only where the broker tells no time, it has to do.
        ("Mon, 04 May 2026 12:01:00 GMT", "Mon, 04 May 2026 12:00:40 GMT", NOW - 90_000, 20.0),
        ("Mon, 04 May 2026 12:01:00 GMT", "", NOW + 50, 10.0),
        ("Mon, 04 May 2026 12:01:00 GMT", "Mon, 04 May 2026 12:02:00 GMT", NOW, USUAL_LOCK),
        ("Mon, 04 May 2026 13:00:01 GMT", "Mon, 04 May 2026 12:00:00 GMT", NOW, USUAL_LOCK),
        ("Mon, 04 May 2026 12:05:00 GMT", "Mon, 04 May 2026 12:00:00 GMT", NOW, LONGEST_LOCK),
        ("Mon, 04 May 2026 12:00:01 GMT", "Mon, 04 May 2026 12:00:00 GMT", NOW, 1.0),
        ("Mon, 04 May 2026 12:00:00 GMT", "Mon, 04 May 2026 12:00:00 GMT", NOW, USUAL_LOCK),
        ("soon", "Mon, 04 May 2026 12:00:00 GMT", NOW, USUAL_LOCK),
    ],
)
def test_length_of_a_lock_is_told_by_the_clock_of_the_broker(until: str, date: str, received: float, seconds: float) -> None:
    assert read_lock(answer({"LockedUntilUtc": until}, received, date=date)) == seconds
    assert read_locked(answer({"LockedUntilUtc": until}, received, date=date), BASE).seconds == seconds


@pytest.mark.parametrize("properties", [None, {}, {"LockedUntilUtc": None}, {"LockedUntilUtc": 60}])
def test_lock_of_which_the_broker_says_nothing_is_taken_for_the_shortest_usual_one(properties: object) -> None:
    assert read_lock(answer(properties)) == USUAL_LOCK


@pytest.mark.parametrize(("count", "times"), [(None, 1), (0, 1), (1, 1), (2, 2), ("10", 10), (-1, 1), ("often", 1)])
def test_message_has_been_delivered_once_at_least(count: object, times: int) -> None:
    assert read_locked(answer({"DeliveryCount": count}), BASE).times == times


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, "status 201"),
        ({"request-id": "r-2"}, "status 201, request id r-2"),
        ({"x-ms-request-id": "r-1", "request-id": "r-2"}, "status 201, request id r-1"),
        ({"request-id": "r\x07"}, "status 201"),
        ({"request-id": "r" * 64}, f"status 201, request id {'r' * 64}"),
        ({"request-id": "r" * 65}, "status 201"),
        ({"x-ms-request-id": "Ines Example"}, "status 201"),
    ],
)
def test_answer_is_told_from_others_by_status_and_request(headers: dict[str, str], said: str) -> None:
    assert Answer(201, b"", headers, NOW).trace() == said


def test_dead_letter_is_known_by_its_place_or_by_its_reason() -> None:
    assert read_locked(answer(location=f"{BASE}/$DeadLetterQueue/messages/31/lock"), BASE).is_dead
    assert read_locked(answer(deadletterreason='"MaxDeliveryCountExceeded"'), BASE).is_dead


def test_names_are_encoded_where_an_address_needs_it_and_may_hold_slashes() -> None:
    assert subscription_path("a/b", "county/$DeadLetterQueue") == "a/b/subscriptions/county/$DeadLetterQueue"
    assert subscription_path("a/$b", "c") == "a/$b/subscriptions/c"
    assert subscription_path("\u00e4+b", "c") == "%C3%A4%2Bb/subscriptions/c"
