"""What spoils an answer of the simulated services: troubles of a schedule as faults of the simulator.

Invariants:

- A fault lets as many calls through, and strikes as often, as its trouble says.
"""

from threading import Event

from delta_mirror.simulator import faults
from delta_mirror.simulator.accela import AccelaFault
from delta_mirror.simulator.bus import BusFault
from torture.plan import Trouble


def fault_of_dds(trouble: Trouble) -> faults.Fault:
    """Return what *trouble* is to the service."""
    match: faults.Match = {"after": trouble.after, "times": trouble.times}
    match trouble.name:
        case "connection reset":
            return faults.reset(**match)
        case "slow answer":
            return faults.slow(Event(), **match)
        case "truncated body":
            return faults.truncated(**match)
        case "broken gzip":
            return faults.bad_gzip(**match)
        case "401 in the middle":
            return faults.status(401, **match)
        case "429" | "503":
            return faults.status(int(trouble.name), **match)
        case "429 with Retry-After" | "503 with Retry-After":
            return faults.status(int(trouble.name[:3]), retry_after=int(trouble.value), **match)
        case "HTML for JSON":
            return faults.html(200 if trouble.value < 0.5 else 404, **match)
        case "redirect":
            return faults.redirect("http://127.0.0.1:9/elsewhere", **match)
        case "wrong length":
            return faults.wrong_length(-40 if trouble.value < 0.7 else 40, **match)
        case _:
            return faults.error_in_200(**match)


def fault_of_bus(trouble: Trouble) -> BusFault:
    """Return what *trouble* is to the broker."""
    after, times = trouble.after, trouble.times
    match trouble.name:
        case "connection reset":
            return BusFault("reset", after=after, times=times)
        case "slow answer":
            return BusFault("slow", after=after, times=1, release=Event())
        case "truncated body":
            return BusFault("half", after=after, times=times)
        case "answer lost":
            return BusFault("drop", after=after, times=times)
        case "HTML for JSON":
            return BusFault("answer", after=after, times=times, status=200, body=b"<html>no broker</html>")
        case _:
            return BusFault("answer", after=after, times=times, status=int(trouble.name[:3]))


def fault_of_accela(trouble: Trouble) -> AccelaFault:
    """Return what *trouble* is to the agency."""
    after, times = trouble.after // 2, trouble.times
    match trouble.name:
        case "connection reset":
            return AccelaFault("lost", after=after, times=times, written="no")
        case "answer lost":
            return AccelaFault("lost", method="PUT", after=after // 4, times=times, written="at once")
        case "slow answer":
            return AccelaFault("slow", after=after, times=1, release=Event(), written="at once")
        case "HTML for JSON":
            return AccelaFault("answer", after=after, times=times, status=200, body="<html>sign in</html>")
        case _:
            asks = {"Retry-After": f"{trouble.value:.0f}"} if trouble.name.endswith("Retry-After") else {}
            return AccelaFault("answer", after=after, times=times, status=int(trouble.name[:3]), headers=asks)
