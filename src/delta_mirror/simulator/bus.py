"""A Service Bus topic with one subscription, over real HTTP on this machine.

Invariants:

- It listens on 127.0.0.1 alone, and answers in a thread of its own.
- Every request is in `calls` before it is answered. A fault strikes only calls that it matches, so many times.
- Signatures are checked for real: the key, the address that they open, and their end by the simulated clock.
- Nothing of the program under test is imported here.

    with Bus() as bus:
        bus.publish(b'{"Client": ...}')
        bus.faults.append(BusFault("drop", "complete"))  # carried out, but the answer is lost
        ...  # bus.url, bus.calls, bus.subscription

By hand, with messages of invented clients: `python -m delta_mirror.simulator.bus --messages 10000`.
"""

import argparse
import asyncio
import hmac
import signal
import sys
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, fields, replace
from http import HTTPStatus
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Literal, NamedTuple, Self, cast
from urllib.parse import parse_qs, quote_plus, unquote, unquote_plus, urlsplit

import orjson

from delta_mirror.simulator.clock import Clock, epoch_seconds, http_date
from delta_mirror.simulator.profiles import profile_message
from delta_mirror.simulator.subscription import BusDials, Message, SimulatedSubscription

TOPIC, SUBSCRIPTION = "client-profiles", "county"
KEY_NAME = "listen-only"
KEY = "bm90IGEgcmVhbCBrZXk="  # of an invented county
DEAD_LETTERS = "$DeadLetterQueue"
LOOK = 0.01  # seconds between two looks at whether a slow answer may go

Operation = Literal["take", "complete", "unlock", "renew", "look"]  # `look` takes from among the dead letters


class BusCall(NamedTuple):
    """One request: what it asks for, of which message (by its sequence number, where there is one), and its status."""

    operation: Operation | None
    sequence: int | None
    status: int | None


@dataclass(slots=True)
class BusFault:
    """One thing that goes wrong.

    Attributes:
        kind: `answer` answers *status* and does nothing; `drop` does what is asked, and breaks the connection off without an
            answer; `reset` breaks it off and does nothing; `slow` holds the question back until `release` is set; `half` sends
            half of the answer and breaks off.
        operation: which calls it strikes; None all of them.
        after: how many of them are let through first.
        times: how many are struck then; None all of them.
    """

    kind: Literal["answer", "drop", "reset", "slow", "half"]
    operation: Operation | None = None
    after: int = 0
    times: int | None = 1
    status: int = 500
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    release: Event | None = None
    struck: int = 0

    def strikes(self, operation: Operation | None) -> bool:
        """Return whether it strikes this call, and count the call."""
        if self.operation not in (None, operation) or (self.times is not None and self.struck >= self.times):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.struck += 1
        return True


class Bus:
    """The broker on a port of this machine; a context manager.

    Attributes:
        subscription: what waits to be received; `dead` what was given up. To be touched under `lock`.
        calls: every request so far.
        faults: what is to go wrong.
    """

    def __init__(self, dials: BusDials | None = None, *, clock: Clock | None = None, port: int = 0, seed: int = 1) -> None:
        self.clock = clock or Clock.running()
        self.dead = SimulatedSubscription(self.clock, dials or BusDials(), seed + 1)
        self.subscription = SimulatedSubscription(self.clock, dials or BusDials(), seed, dead=self.dead)
        self.calls: list[BusCall] = []
        self.faults: list[BusFault] = []
        self.lock = Lock()
        self.waiting: list[_Question] = []
        self.open: set[_Conversation] = set()
        self._port = port
        self._ready: Future[int] = Future()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._serve, name="simulated bus", daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._ready.result()}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def configuration(self) -> str:
        """Return the section of a configuration that receives from here."""
        keys = {
            "service_bus_url": self.url,
            "topic": TOPIC,
            "subscription": SUBSCRIPTION,
            "key_name": KEY_NAME,
            "key": KEY,
        }
        return "[nexus]\n" + "".join(f'{name} = "{value}"\n' for name, value in keys.items())

    def publish(self, *bodies: bytes, message_id: str | None = None) -> None:
        """Let *bodies* be delivered, to those who are waiting at once."""
        with self.lock:
            for body in bodies:
                self.subscription.publish(body, message_id)
        self._loop.call_soon_threadsafe(self._serve_waiting)

    def counts(self) -> Mapping[str, int]:
        """Return how many calls of each operation were answered with a good status."""
        good = [call.operation for call in self.calls if call.status is not None and call.status < 300]
        return {name: good.count(name) for name in ("take", "complete", "unlock", "renew", "look")}

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            self._loop.create_server(lambda: _Conversation(self, self._loop), "127.0.0.1", self._port, backlog=128)
        )
        self._ready.set_result(server.sockets[0].getsockname()[1])
        self._loop.run_forever()
        server.close()
        for conversation in list(self.open):
            conversation.break_off()
        self._loop.run_until_complete(asyncio.sleep(0))  # lets the connections go
        self._loop.close()

    def _serve_waiting(self) -> None:
        waiting, self.waiting = self.waiting, []
        for question in waiting:
            question.conversation.try_to_take(question)

    def fault_for(self, operation: Operation | None) -> BusFault | None:
        """Return the fault that strikes the next call of *operation*."""
        return next((fault for fault in list(self.faults) if fault.strikes(operation)), None)

    def authorizes(self, header: str, url: str) -> bool:
        """Return whether *header* opens *url* now."""
        scheme, _, rest = header.partition(" ")
        parts = dict(part.partition("=")[::2] for part in rest.split("&"))
        resource, expiry = parts.get("sr", ""), parts.get("se", "")
        digest = hmac.digest(KEY.encode(), f"{resource}\n{expiry}".encode(), "sha256")
        return (
            scheme == "SharedAccessSignature"
            and expiry.isdecimal()
            and int(expiry) > epoch_seconds(self.clock.now)
            and parts.get("skn") == KEY_NAME
            and parts.get("sig") == quote_plus(b64encode(digest))
            and f"{url}/".startswith(f"{unquote_plus(resource)}/")
        )


@dataclass(slots=True, eq=False)
class _Question:
    """A request for a message that has to wait, and the call of the loop that ends its waiting."""

    conversation: "_Conversation"
    fault: BusFault | None
    end: asyncio.TimerHandle | None = None


class _Conversation(asyncio.Protocol):
    """One connection: read by hand, because a thousand messages a second are two thousand requests."""

    def __init__(self, bus: Bus, loop: asyncio.AbstractEventLoop) -> None:
        self._bus = bus
        self._loop = loop
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._bus.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._bus.open.discard(self)
        self._bus.waiting = [question for question in self._bus.waiting if question.conversation is not self]

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head, self._received = self._received[:end].decode("latin-1"), self._received[end + 4 :]
            first, *lines = head.split("\r\n")
            method, target, _ = first.split(" ", 2)
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            delay = self._bus.subscription.dials.latency
            if delay:
                self._loop.call_later(delay, self._hear, method, target, headers)
            else:
                self._hear(method, target, headers)

    def break_off(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _hear(self, method: str, target: str, headers: Mapping[str, str], *, was_held_back: bool = False) -> None:
        url = urlsplit(target)
        operation, token, is_dead = _operation(method, url.path)
        subscription = self._bus.dead if is_dead else self._bus.subscription
        fault = None if was_held_back else self._bus.fault_for(operation)
        if fault is not None and fault.kind == "slow" and fault.release is not None:
            self._wait_for(fault.release, method, target, headers)
        elif fault is not None and fault.kind == "answer":
            self._answer(operation, None, fault.status, fault.body, fault.headers)
        elif fault is not None and fault.kind == "reset":
            self._answer(operation, None, None, fault=fault)
        elif not self._bus.authorizes(headers.get("authorization", ""), self._bus.url + unquote(url.path)):
            self._answer(operation, None, 401)
        elif operation is None:
            self._answer(None, None, 404)
        elif operation == "take":
            asked = parse_qs(url.query).get("timeout", ["60"])[0]
            self._take(min(float(asked), self._bus.subscription.dials.patience), fault)
        elif operation == "look":
            self._look(fault)
        else:
            self._settle(operation, token, subscription, fault)

    def _wait_for(self, release: Event, method: str, target: str, headers: Mapping[str, str]) -> None:
        """Hear the request once *release* is set."""
        if release.is_set():
            self._hear(method, target, headers, was_held_back=True)
        else:
            self._loop.call_later(LOOK, self._wait_for, release, method, target, headers)

    def _take(self, seconds: float, fault: BusFault | None) -> None:
        question = _Question(self, fault)
        if not self.try_to_take(question):
            question.end = self._loop.call_later(seconds, self._stop_waiting, question)

    def try_to_take(self, question: _Question) -> bool:
        """Answer *question* with a message; where there is none, let it wait and return False."""
        with self._bus.lock:
            message = None if self._transport is None else self._bus.subscription.take()
        if message is None:
            self._bus.waiting.append(question)
            return False
        if question.end is not None:
            question.end.cancel()
        self._answer("take", message, 201, message.body, self._about(message), question.fault)
        return True

    def _stop_waiting(self, question: _Question) -> None:
        if question in self._bus.waiting:
            self._bus.waiting.remove(question)
            # A lock may have ended in the meantime, of which nobody is told.
            if not self.try_to_take(question):
                self._bus.waiting.remove(question)
                self._answer("take", None, 204, fault=question.fault)

    def _look(self, fault: BusFault | None) -> None:
        """Answer with a dead letter; nobody waits for one."""
        with self._bus.lock:
            message = self._bus.dead.take()
        if message is None:
            self._answer("look", None, 204, fault=fault)
        else:
            self._answer("look", message, 201, message.body, self._about(message, is_dead=True), fault)

    def _settle(self, operation: Operation, token: str, subscription: SimulatedSubscription, fault: BusFault | None) -> None:
        with self._bus.lock:
            message = subscription.under(token)
            if operation == "renew":
                subscription.renew(token)
            elif operation == "complete":
                subscription.complete(token)
            else:
                subscription.unlock(token)
            about = self._about(message) if message is not None and operation == "renew" else ()
        self._answer(operation, message, 404 if message is None else 200, b"", about, fault)

    def _about(self, message: Message, *, is_dead: bool = False) -> tuple[tuple[str, str], ...]:
        """Return the headers that a message comes with."""
        dials, path = self._bus.subscription.dials, f"/{TOPIC}/subscriptions/{SUBSCRIPTION}"
        dead = f"/{DEAD_LETTERS}" if is_dead else ""
        host = {"whole": self._bus.url, "path": "", "foreign": "http://elsewhere.example"}.get(dials.location, "")
        folder = "" if dials.location == "beside" else f"{host}{path}{dead}/messages/"
        headers: list[tuple[str, str]] = []
        if dials.location != "none":
            headers.append(("Location", f"{folder}{message.sequence}/{message.token}"))
        if dials.properties:
            properties = {
                "DeliveryCount": message.count,
                "EnqueuedTimeUtc": http_date(message.enqueued),
                "LockToken": message.token,
                "LockedUntilUtc": http_date(message.locked_until),
                "MessageId": message.message_id,
                "SequenceNumber": message.sequence,
                "State": "Active",
            }
            headers.append(("BrokerProperties", orjson.dumps(properties).decode()))
        return tuple(headers)

    def _answer(
        self,
        operation: Operation | None,
        message: Message | None,
        status: int | None,
        body: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
        fault: BusFault | None = None,
    ) -> None:
        self._bus.calls.append(BusCall(operation, None if message is None else message.sequence, status))
        transport = self._transport
        if transport is None:
            return
        if status is None or (fault is not None and fault.kind in ("drop", "reset")):
            transport.abort()
            return
        date = [f"Date: {http_date(self._bus.clock.now)}"] if self._bus.subscription.dials.date_header else []
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            *date,
            *(f"{name}: {value}" for name, value in headers),
            *([] if status == 204 else [f"Content-Length: {len(body)}"]),
        ]
        sent = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
        if fault is not None and fault.kind == "half":
            transport.write(sent[: len(sent) - max(len(body) // 2, 1)])
            transport.close()
        else:
            transport.write(sent)


def _operation(method: str, path: str) -> tuple[Operation | None, str, bool]:
    """Return what is asked for, the lock token that it names, and whether it is about dead letters."""
    base = ["", TOPIC, "subscriptions", SUBSCRIPTION]
    parts = unquote(path).split("/")
    rest = parts[len(base) :]
    is_dead = rest[:1] != [] and rest[0].lower() == DEAD_LETTERS.lower()
    if parts[: len(base)] != base:
        return None, "", False
    match method, rest[1:] if is_dead else rest:
        case "POST", ["messages", "head"]:
            return "look" if is_dead else "take", "", is_dead
        case "DELETE", ["messages", _, token]:
            return "complete", token, is_dead
        case "PUT", ["messages", _, token]:
            return "unlock", token, is_dead
        case "POST", ["messages", _, token]:
            return "renew", token, is_dead
    return None, "", False


def main(arguments: list[str] | None = None) -> int:
    """Serve messages of invented clients until a signal comes; return the exit code."""
    told = Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: told.set())
    options = _options(arguments)
    with Bus(options.dials, port=options.port, seed=options.seed) as bus:
        bus.publish(*(profile_message(number, options.clients) for number in range(options.messages)))
        sys.stdout.write(bus.configuration())
        sys.stdout.flush()
        number = options.messages
        while not told.wait(60 / options.per_minute if options.per_minute else None):
            bus.publish(profile_message(number, options.clients))
            number += 1
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m delta_mirror.simulator.bus", description="A Service Bus on this machine.")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--messages", type=int, default=1000, help="that wait from the beginning")
    parser.add_argument("--clients", type=int, default=100, help="that they are about")
    parser.add_argument("--per-minute", type=float, default=0.0, help="messages that come while it runs")
    parser.add_argument("--dial", action="append", default=[], metavar="NAME=VALUE", help="one of the dials, may be repeated")
    options = parser.parse_args(arguments)
    options.dials = BusDials()
    kinds = {known.name: type(getattr(options.dials, known.name)) for known in fields(BusDials)}
    for setting in options.dial:
        name, _, text = setting.partition("=")
        if name not in kinds:
            parser.error(f"no such dial: {name}; there are {', '.join(kinds)}")
        options.dials = replace(options.dials, **{name: kinds[name](text)})
    return options


if __name__ == "__main__":
    sys.exit(main())
