"""The simulated Service Bus does what the tests of receiving rely on, asked without a line of the program."""

import hmac
import signal
import subprocess
import sys
import tomllib
from base64 import b64encode
from collections.abc import Iterator
from urllib.parse import quote_plus

import pytest
import requests

from delta_mirror.simulator.bus import KEY, KEY_NAME, SUBSCRIPTION, TOPIC, Bus, BusFault
from delta_mirror.simulator.clock import SECOND, Clock, epoch_seconds
from delta_mirror.simulator.subscription import BusDials, SimulatedSubscription

PATH = f"/{TOPIC}/subscriptions/{SUBSCRIPTION}"


@pytest.fixture
def bus() -> Iterator[Bus]:
    with Bus(clock=Clock()) as bus:
        yield bus


def signature(bus: Bus, *, resource: str = PATH, key: str = KEY, name: str = KEY_NAME, ahead: int = 60) -> str:
    uri, expiry = quote_plus(bus.url + resource), int(epoch_seconds(bus.clock.now)) + ahead
    signed = quote_plus(b64encode(hmac.digest(key.encode(), f"{uri}\n{expiry}".encode(), "sha256")))
    return f"SharedAccessSignature sr={uri}&sig={signed}&se={expiry}&skn={name}"


def ask(bus: Bus, method: str, address: str, authorization: str | None = None) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        headers = {"Authorization": authorization or signature(bus)}
        return session.request(method, address, headers=headers, timeout=10, allow_redirects=False)


def take(bus: Bus, **wrong: str) -> requests.Response:
    return ask(bus, "POST", f"{bus.url}{PATH}/messages/head?timeout=0", **wrong)


def test_signature_opens_its_address_and_what_lies_below_and_nothing_else(bus: Bus) -> None:
    for resource in (PATH, f"/{TOPIC}", ""):
        assert take(bus, authorization=signature(bus, resource=resource)).status_code == 204
    refused = [
        signature(bus, resource=f"{PATH}/messages/tail"),
        signature(bus, resource=f"/{TOPIC[:-1]}"),
        signature(bus, key="d3Jvbmc="),
        signature(bus, name="somebody"),
        signature(bus, ahead=0),
        signature(bus).replace("se=1", "se=2"),
        "Bearer token",
    ]
    assert [take(bus, authorization=each).status_code for each in refused] == [401] * len(refused)


def test_message_is_locked_until_its_time_is_over_and_then_comes_again(bus: Bus) -> None:
    bus.publish(b"first", message_id="m")
    first = take(bus)
    assert (first.status_code, first.content, take(bus).status_code) == (201, b"first", 204)
    bus.clock.advance(61 * SECOND)
    assert ask(bus, "DELETE", first.headers["Location"]).status_code == 404
    again = take(bus)
    properties = [answer.headers["BrokerProperties"] for answer in (first, again)]
    assert ['"DeliveryCount":1' in properties[0], '"DeliveryCount":2' in properties[1]] == [True, True]
    assert ask(bus, "DELETE", again.headers["Location"]).status_code == 200
    assert bus.subscription.completed == ["m"]


def test_renewed_and_unlocked_messages_are_what_they_are_called(bus: Bus) -> None:
    bus.publish(b"first")
    place = take(bus).headers["Location"]
    bus.clock.advance(40 * SECOND)
    assert ask(bus, "POST", place).status_code == 200
    bus.clock.advance(40 * SECOND)
    assert take(bus).status_code == 204
    assert ask(bus, "PUT", place).status_code == 200
    assert take(bus).status_code == 201


def test_what_is_dropped_was_done(bus: Bus) -> None:
    bus.publish(b"first", message_id="m")
    place = take(bus).headers["Location"]
    bus.faults.append(BusFault("drop", "complete"))
    with pytest.raises(requests.ConnectionError):
        ask(bus, "DELETE", place)
    assert bus.subscription.completed == ["m"]


def test_message_that_is_never_completed_is_given_up() -> None:
    dead = SimulatedSubscription(Clock())
    subscription = SimulatedSubscription(Clock(), BusDials(max_delivery_count=3), dead=dead)
    subscription.publish(b"first")
    for count in (1, 2, 3):
        message = subscription.take()
        assert message is not None
        assert message.count == count
        assert message.token is not None
        subscription.unlock(message.token)
    assert (subscription.left, dead.left) == (0, 1)


def test_order_and_repetitions_are_those_of_the_dials_and_of_the_seed() -> None:
    def delivered(seed: int) -> list[str]:
        subscription = SimulatedSubscription(Clock(), BusDials(order="random", duplicates=0.5), seed)
        for number in range(30):
            subscription.publish(b"", f"m{number:02}")
        return [message.message_id for message in iter(subscription.take, None)]

    found = delivered(3)
    assert found == delivered(3) != delivered(4)
    assert found != sorted(found)
    assert len(found) > len(set(found)) == 30


def test_by_hand_it_says_what_a_configuration_needs_and_serves_until_it_is_told_to_end() -> None:
    call = [sys.executable, "-m", "delta_mirror.simulator.bus", "--messages", "2", "--dial", "lock_seconds=5"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = tomllib.loads("".join(process.stdout.readline() for _ in range(6)))["nexus"]
        assert (found["topic"], found["key"]) == (TOPIC, KEY)
        refused = requests.post(f"{found['service_bus_url']}{PATH}/messages/head", timeout=10, proxies={"http": ""})
        assert refused.status_code == 401
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
