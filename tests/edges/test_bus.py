"""The Service Bus edge over real HTTP: locks, refusals, tokens, broken answers, TLS, and where the token may go."""

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import time as wall

import pytest

from delta_mirror.calls.attempts import Manners
from delta_mirror.errors import (
    ConfigError,
    CredentialsError,
    DeltaMirrorError,
    LimitedError,
    ProtocolError,
    StreamRefusedError,
    UnreachableError,
)
from delta_mirror.nexus.bus import TOKEN_LIFE, Bus, Subscription
from delta_mirror.simulator.bus import KEY, KEY_NAME, SUBSCRIPTION, TOPIC, BusFault, Operation
from delta_mirror.simulator.bus import Bus as SimulatedBus
from delta_mirror.simulator.clock import HOUR, SECOND, Clock, epoch_seconds
from delta_mirror.simulator.subscription import BusDials
from tls import pem

BODY = b'{"Client": {"IntegrationId": "EX000001"}}'
HELD_BACK = "Marigold"  # stands for a value of a message wherever a test says that none may show


@dataclass
class Time:
    """A clock that moves only when somebody sleeps, and remembers for how long."""

    seconds: float
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def time(clock: Clock) -> Time:
    return Time(epoch_seconds(clock.now))


@pytest.fixture
def broker(clock: Clock) -> Iterator[SimulatedBus]:
    with SimulatedBus(clock=clock) as broker:
        yield broker


Opened = Callable[..., Bus]


def bus_at(url: str, manners: Manners, now: Callable[[], float] = wall, monotonic: Callable[[], float] = wall) -> Bus:
    subscription = Subscription(url, TOPIC, SUBSCRIPTION, KEY_NAME, KEY)
    return Bus(subscription, manners, lambda _: None, now=now, monotonic=monotonic)


@pytest.fixture
def opened(broker: SimulatedBus, time: Time) -> Iterator[Opened]:
    """Make a bus that knows the broker: `opened(attempts=1, key=..., limits=...)`."""
    made: list[Bus] = []

    def open_bus(
        *,
        attempts: int = 1,
        max_wait: float = 60.0,
        limits: list[float | None] | None = None,
        timeout: float = 20.0,
        **parts: str,
    ) -> Bus:
        told = [] if limits is None else limits
        subscription = replace(Subscription(broker.url, TOPIC, SUBSCRIPTION, KEY_NAME, KEY), **parts)
        bus = Bus(
            subscription,
            Manners(timeout, attempts, max_wait, ""),
            told.append,
            now=time.now,
            sleep=time.sleep,
            jitter=lambda: 0.0,
        )
        made.append(bus)
        return bus

    yield open_bus
    for bus in made:
        bus.close()


# Taking and settling


def test_message_is_taken_under_a_lock_and_gone_once_it_is_completed(broker: SimulatedBus, opened: Opened) -> None:
    broker.publish(BODY, message_id="first")
    bus = opened()
    locked = bus.take(0)
    assert locked is not None
    assert locked.delivery == (BODY, "first", 1)
    assert (locked.seconds, locked.times) == (60.0, 1)
    assert bus.take(0) is None  # nobody else gets it meanwhile
    assert bus.complete(locked)
    assert broker.subscription.completed == ["first"]
    assert broker.subscription.left == 0
    assert bus.calls() == len(broker.calls)


def test_message_that_is_unlocked_comes_again_and_counts(broker: SimulatedBus, opened: Opened) -> None:
    broker.publish(BODY)
    bus = opened()
    first = bus.take(0)
    assert first is not None
    assert bus.unlock(first)
    again = bus.take(0)
    assert again is not None
    assert (again.times, again.delivery) == (2, first.delivery)


@pytest.mark.parametrize("gone", [404, 410])
def test_lost_lock_is_told_and_is_no_failure(broker: SimulatedBus, opened: Opened, clock: Clock, gone: int) -> None:
    broker.publish(BODY)
    bus = opened()
    locked = bus.take(0)
    assert locked is not None
    clock.advance(61 * SECOND)
    if gone == 410:
        broker.faults.append(BusFault("answer", status=gone, times=3))
    assert not bus.complete(locked)
    assert not bus.unlock(locked)
    assert bus.renew(locked) is None


def test_renewed_lock_holds_for_its_whole_time_anew(broker: SimulatedBus, opened: Opened, clock: Clock) -> None:
    broker.publish(BODY)
    bus = opened()
    locked = bus.take(0)
    assert locked is not None
    clock.advance(50 * SECOND)
    assert bus.renew(locked) == 60.0
    clock.advance(50 * SECOND)
    assert bus.complete(locked)


def test_lock_that_a_broker_renews_without_a_word_is_as_long_as_at_first(clock: Clock, time: Time) -> None:
    with SimulatedBus(BusDials(lock_seconds=45, properties=True), clock=clock) as broker:
        broker.publish(BODY)
        bus = Bus(
            Subscription(broker.url, TOPIC, SUBSCRIPTION, KEY_NAME, KEY), Manners(5, 1, 60, ""), lambda _: None, now=time.now
        )
        locked = bus.take(0)
        assert locked is not None
        broker.faults.append(BusFault("answer", "renew", status=200))
        assert bus.renew(locked) == 45.0
        bus.close()


@pytest.mark.parametrize("location", ["whole", "path", "beside", "foreign", "none"])
def test_message_is_settled_whatever_the_broker_says_of_where(
    clock: Clock, time: Time, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SimulatedBus(replace(BusDials(), location=location), clock=clock) as broker:  # type: ignore[arg-type]  # one of them
        broker.publish(BODY)
        bus = Bus(
            Subscription(broker.url, TOPIC, SUBSCRIPTION, KEY_NAME, KEY), Manners(5, 1, 60, ""), lambda _: None, now=time.now
        )
        locked = bus.take(0)
        assert locked is not None
        assert bus.renew(locked)
        assert bus.complete(locked)
        assert broker.subscription.left == 0
        bus.close()


def test_question_waits_for_a_message_as_long_as_it_was_asked_to(broker: SimulatedBus, opened: Opened) -> None:
    bus = opened()
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(bus.take(30)))
    waiting.start()
    while not broker.waiting:
        threading.Event().wait(0.001)
    broker.publish(BODY)
    waiting.join(10)
    assert len(found) == 1
    assert found[0] is not None


def test_whoever_waits_for_a_message_can_be_broken_off_and_complains_of_nothing(
    broker: SimulatedBus, opened: Opened, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    bus = opened(attempts=6)
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(bus.take(30)))
    waiting.start()
    while not broker.waiting:
        threading.Event().wait(0.001)
    bus.stop_taking()
    waiting.join(10)
    assert found == [None]
    assert (caplog.records, time.slept) == ([], [])
    assert not bus.has_dead_letters()  # others still may ask
    assert broker.counts()["take"] == 0


# Dead letters


def test_dead_letters_are_seen_without_being_taken(clock: Clock, time: Time) -> None:
    with SimulatedBus(BusDials(max_delivery_count=1), clock=clock) as broker:
        bus = Bus(
            Subscription(broker.url, TOPIC, SUBSCRIPTION, KEY_NAME, KEY), Manners(5, 1, 60, ""), lambda _: None, now=time.now
        )
        assert not bus.has_dead_letters()
        broker.publish(BODY)
        locked = bus.take(0)
        assert locked is not None
        bus.unlock(locked)
        assert bus.has_dead_letters()
        assert broker.dead.left == 1
        bus.close()


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503])
def test_broker_that_does_not_show_its_dead_letters_is_asked_once_and_believed_to_have_none(
    broker: SimulatedBus, opened: Opened, status: int
) -> None:
    broker.faults.append(BusFault("answer", "look", status=status, times=None))
    assert not opened(attempts=6).has_dead_letters()
    assert len(broker.calls) == (2 if status == 401 else 1)


# Refusals


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (403, CredentialsError, "nexus.key"),
        (404, StreamRefusedError, "no such topic or subscription"),
        (410, StreamRefusedError, "no such topic or subscription"),
        (400, StreamRefusedError, "sessions"),
        (407, UnreachableError, "HTTPS_PROXY"),
        (302, ProtocolError, "redirect"),
        (307, ProtocolError, "redirect"),
        (500, UnreachableError, "the broker failed"),
        (429, LimitedError, "too many calls"),
        (503, LimitedError, "the broker is busy"),
    ],
)
def test_refusal_says_what_it_means_and_what_to_do(
    broker: SimulatedBus, opened: Opened, status: int, kind: type[DeltaMirrorError], said: str
) -> None:
    elsewhere = ("Location", broker.url + "/somewhere")
    broker.faults.append(BusFault("answer", "take", status=status, headers=(elsewhere,), body=HELD_BACK.encode()))
    with pytest.raises(kind, match=said) as caught:
        opened().take(0)
    assert f"status {status}" in str(caught.value)
    assert HELD_BACK not in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(broker.calls) == 1  # no redirect is followed, and nothing is asked again that cannot help


def test_wrong_topic_is_refused_by_name(broker: SimulatedBus, opened: Opened) -> None:
    with pytest.raises(StreamRefusedError, match=r"nexus\.topic"):
        opened(topic="elsewhere").take(0)


def test_wrong_key_is_refused_after_a_second_try_with_a_new_token(broker: SimulatedBus, opened: Opened) -> None:
    with pytest.raises(CredentialsError, match=r"nexus\.key_name and nexus\.key"):
        opened(key="d3Jvbmc=").take(0)
    assert [call.status for call in broker.calls] == [401, 401]


@pytest.mark.parametrize("fault", ["reset", "half"])
def test_broken_answer_is_worth_another_attempt(broker: SimulatedBus, opened: Opened, time: Time, fault: str) -> None:
    broker.publish(BODY)
    broker.faults.append(BusFault("reset" if fault == "reset" else "half", "take"))
    locked = opened(attempts=2).take(0)
    assert (locked is None) is (fault == "half")  # of half an answer, the message is locked already
    assert time.slept == [1.0]


def test_attempts_are_made_with_growing_pauses_and_then_given_up(broker: SimulatedBus, opened: Opened, time: Time) -> None:
    broker.faults.append(BusFault("reset", times=None))
    with pytest.raises(UnreachableError, match=r"after 4 attempts: the connection broke off .*Check nexus\.service_bus_url"):
        opened(attempts=4, max_wait=3.0).take(0)
    assert time.slept == [1.0, 2.0, 3.0]


def test_page_of_something_else_is_not_taken_for_a_message(broker: SimulatedBus, opened: Opened) -> None:
    page = b"<html><body>Please sign in</body></html>"
    broker.faults.append(BusFault("answer", "take", status=200, body=page, headers=(("Content-Type", "text/html"),), times=2))
    with pytest.raises(UnreachableError, match="not the broker's"):
        opened(attempts=2).take(0)


def test_pause_that_the_broker_asks_for_is_made(broker: SimulatedBus, opened: Opened, time: Time) -> None:
    broker.publish(BODY)
    broker.faults.append(BusFault("answer", "take", status=503, headers=(("Retry-After", "7"),)))
    assert opened(attempts=2).take(0) is not None
    assert time.slept == [7.0]


def test_pause_that_is_too_long_is_told_and_not_made(broker: SimulatedBus, opened: Opened, time: Time) -> None:
    broker.faults.append(BusFault("answer", "complete", status=429, headers=(("Retry-After", "600"),)))
    broker.publish(BODY)
    limits: list[float | None] = []
    bus = opened(attempts=6, limits=limits)
    locked = bus.take(0)
    assert locked is not None
    with pytest.raises(LimitedError, match="asks for a pause of 600 s") as caught:
        bus.complete(locked)
    assert caught.value.until == time.now() + 600
    assert limits == [caught.value.until]
    assert time.slept == []


@pytest.mark.parametrize("operation", ["complete", "unlock", "renew"])
def test_completion_whose_answer_is_lost_is_asked_again_and_then_its_lock_is_gone(
    broker: SimulatedBus, opened: Opened, operation: Operation
) -> None:
    broker.publish(BODY)
    bus = opened(attempts=2)
    locked = bus.take(0)
    assert locked is not None
    broker.faults.append(BusFault("drop", operation))
    if operation == "renew":
        assert bus.renew(locked) == 60.0
    else:
        assert not (bus.complete(locked) if operation == "complete" else bus.unlock(locked))
    assert broker.subscription.left == (operation != "complete")


def test_silent_broker_is_given_up_after_the_timeout(broker: SimulatedBus, opened: Opened) -> None:
    release = threading.Event()
    broker.faults.append(BusFault("slow", "take", release=release))
    with pytest.raises(UnreachableError, match="time is out"):
        opened(timeout=0.05).take(0)
    release.set()


# Tokens


def test_token_is_made_anew_before_it_ends(broker: SimulatedBus, opened: Opened, clock: Clock, time: Time) -> None:
    bus = opened()
    for _ in range(5):
        assert bus.take(0) is None
        clock.advance(round(0.4 * TOKEN_LIFE * SECOND))
        time.seconds += 0.4 * TOKEN_LIFE
    assert {call.status for call in broker.calls} == {204}


def test_token_that_is_refused_in_the_middle_is_made_anew_once(broker: SimulatedBus, opened: Opened) -> None:
    broker.publish(BODY)
    broker.faults.append(BusFault("answer", "take", status=401))
    assert opened().take(0) is not None
    broker.faults.append(BusFault("answer", "take", status=401, times=2))
    with pytest.raises(CredentialsError):
        opened().take(0)


@pytest.mark.parametrize("hours", [-30, 30])
def test_clock_of_this_machine_may_be_wrong(broker: SimulatedBus, opened: Opened, time: Time, hours: int) -> None:
    broker.publish(BODY)
    time.seconds += hours * 3600
    bus = opened()
    locked = bus.take(0)
    assert locked is not None
    assert locked.seconds == 60.0
    assert bus.complete(locked)
    assert round(bus.clock_behind()) == -hours * 3600
    assert [call.status for call in broker.calls] == ([401, 201, 200] if hours < 0 else [201, 200])


def test_clock_of_a_broker_that_moves_on_is_followed(broker: SimulatedBus, opened: Opened, clock: Clock) -> None:
    bus = opened()
    bus.take(0)
    clock.advance(5 * HOUR)
    bus.take(0)
    assert round(bus.clock_behind()) == 5 * 3600


# Below HTTP


@contextmanager
def listening(talk: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Let *talk* have every connection to a port of this machine."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
                with tls.wrap_socket(connection, server_side=True) if tls else connection as conversation:
                    talk(conversation)
            except ssl.SSLError:
                continue  # a caller that does not trust us
            except OSError:
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def nothing_there(conversation: socket.socket) -> None:
    conversation.recv(65536)
    conversation.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")


def ask_at(url: str, ca_file: str = "") -> object:
    """Return what a bus of its own takes from the broker at *url*."""
    with closing(bus_at(url, Manners(5.0, 1, 1.0, ca_file))) as bus:
        return bus.take(0)


def test_certificate_that_nobody_vouches_for_is_refused_unless_its_authority_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(pem(), encoding="ascii")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem")
    with listening(nothing_there, context) as port:
        with pytest.raises(UnreachableError, match=r"TLS fails: self.signed certificate.*http\.ca_file"):
            ask_at(f"https://localhost:{port}")
        assert ask_at(f"https://localhost:{port}", str(tmp_path / "ca.pem")) is None


def test_file_without_certificates_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate", encoding="ascii")
    with pytest.raises(ConfigError, match=r"http\.ca_file"):
        ask_at("https://localhost:1", str(tmp_path / "ca.pem"))


def test_closed_port_is_told_with_the_host_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UnreachableError, match=f"the connection is refused at http://127.0.0.1:{port} ") as caught:
        ask_at(f"http://127.0.0.1:{port}")
    assert TOPIC not in str(caught.value)


def test_connection_that_the_broker_closed_in_a_pause_is_opened_anew(time: Time) -> None:
    patient = Patient()
    with listening(patient) as port, closing(bus_at(f"http://127.0.0.1:{port}", Manners(5, 1, 1, ""), monotonic=time.now)) as bus:
        assert bus.take(0) is None
        patient.closed.wait(5)
        time.seconds += 10
        assert bus.take(0) is None


class Patient:
    """Answers, keeps the connection alive in words, and then closes it."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def __call__(self, conversation: socket.socket) -> None:
        conversation.recv(65536)
        conversation.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        conversation.shutdown(socket.SHUT_RDWR)
        self.closed.set()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", b"nonsense\r\n\r\n", b"HTTP/1.1 2"])
def test_what_is_no_whole_answer_is_a_broken_connection(answer: bytes) -> None:
    def talk(conversation: socket.socket) -> None:
        conversation.recv(65536)
        conversation.sendall(answer)

    with listening(talk) as port, pytest.raises(UnreachableError, match="the connection broke off"):
        ask_at(f"http://127.0.0.1:{port}")


def test_proxy_of_the_environment_is_asked_for_a_tunnel_and_gets_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []

    def talk(conversation: socket.socket) -> None:
        heard.append(conversation.recv(65536))
        conversation.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")

    with listening(talk) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://ann:{HELD_BACK}@127.0.0.1:{port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with pytest.raises(UnreachableError, match=r"the proxy fails.*HTTPS_PROXY") as caught:
            ask_at("https://nowhere.servicebus.windows.net")
    [asked] = heard
    assert asked.startswith(b"CONNECT nowhere.servicebus.windows.net:443 ")
    assert b"Proxy-Authorization: Basic " in asked
    assert b"SharedAccessSignature" not in asked
    assert HELD_BACK not in str(caught.value)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "https://proxy.example:8443", "http://proxy.example:port"])
def test_proxy_that_cannot_be_used_is_refused_and_not_passed_by(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(ConfigError, match="HTTPS_PROXY"):
        ask_at("https://nowhere.servicebus.windows.net")


def test_to_this_machine_there_is_no_proxy(broker: SimulatedBus, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert opened().take(0) is None


def test_no_message_of_the_log_holds_a_body_or_a_token(
    broker: SimulatedBus, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "delta_mirror.nexus")
    broker.publish(f'{{"a": "{HELD_BACK}"}}'.encode())
    broker.faults.append(BusFault("reset"))
    bus = opened(attempts=2)
    locked = bus.take(0)
    assert locked is not None
    bus.complete(locked)
    assert len(caplog.messages) >= 3
    for secret in (HELD_BACK, "sig=", KEY, locked.target):
        assert secret not in caplog.text
