"""What one push does to its contact: read, compare, write, read again, settle. The decisions; nothing here calls or stores.

A push goes through these states, each of which survives the death of the process:

    due --GET--> nothing differs: `unchanged`
        --GET--> something differs: `sent` (stored) --PUT--> answered or not --GET--> `pushed`, `partly` or `failed`

Invariants:

- The contact itself decides what became of a PUT, and not the answer to it: an answer can be lost, or be an error although the
  write was done. Only a refusal that says so (a status of 4xx) is believed without a look.
- A `sent` that a run has left behind is settled by the next GET before anything is sent again, by its marks: what the map or
  the record say now may be something else.
- What was lost and cannot be seen yet is `failed`, and stays open: a slow script may still be at it. The next GET may find that
  it came through, and then it is `pushed` after all and is not sent again.
- Nothing here names a value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from delta_mirror.accela.contact import Contact, Wanted, changed_beside, differing, marked
from delta_mirror.core.links import Left

Outcome = Literal["sent", "pushed", "unchanged", "partly", "failed", "source_deleted"]
ENDED: frozenset[Outcome] = frozenset({"pushed", "unchanged", "partly", "source_deleted"})
"""The outcomes after which a record is pushed again only when it changes."""

EMSE = "emse_error"
GONE = "the contact is gone (404); mend the link, or remove it"


class Accepted(NamedTuple):
    """The service has taken a PUT; `code` is that of a script which failed afterwards, None where none did."""

    trace_id: str | None = None
    code: str | None = None


class Refusal(NamedTuple):
    """The service has answered with an error. `named` are the fields that its message names."""

    status: int
    code: str
    trace_id: str | None = None
    named: tuple[str, ...] = ()

    @property
    def is_final(self) -> bool:
        """Whether it says that nothing was written: not an error of the server or of what stands in between, nor a time-out."""
        return 400 <= self.status < 500 and self.status != 408

    @property
    def is_passing(self) -> bool:
        """Whether the same question may be answered well a moment later: the server failed, or took too long."""
        return self.status >= 500 or self.status == 408

    @property
    def is_timeout(self) -> bool:
        """Whether something in between gave up waiting: the service itself may still be at it."""
        return self.status in (408, 502, 504)

    def __str__(self) -> str:
        """Return it as messages have it: without the service's own words, which can hold values, and alike for many contacts."""
        about = f", naming {', '.join(self.named)}" if self.named else ""
        return f"{self.code} (status {self.status}){about}"


class Lost(NamedTuple):
    """No answer to a PUT came, or only a part; the write may have been done, or still be going on."""

    trouble: str


Told = Accepted | Refusal | Lost


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a push. `fields` are those that its PUT was to change, `missed` those of them that did not take.

    `beside` are fields outside the map that were changed between the two readings, by somebody else or by a script. `is_open`
    says that a later GET may still find it done.
    """

    outcome: Outcome
    fields: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    error: str | None = None
    warning: str | None = None
    trace_id: str | None = None
    is_open: bool = False


def settle_left(left: Left, contact: Contact) -> Verdict:
    """Return what became of a push that was left behind, now that *contact* could be read."""
    held = marked(left.contact_id, contact, left.marks)
    missed = tuple(field for field in left.marks if field not in held)
    fields = tuple(left.marks)
    if not missed:
        return Verdict("pushed", fields)
    if held:
        return Verdict("partly", fields, missed, error=_not_taken(missed))
    return Verdict("failed", fields, missed, error="its answer never came, and the contact does not show it; it is sent again")


def judge_refusal(fields: Sequence[str], refusal: Refusal) -> Verdict:
    """Return what a refusal of a PUT means that says itself that nothing was written."""
    return Verdict("failed", tuple(fields), tuple(fields), error=_said(refusal), trace_id=refusal.trace_id)


def judge(fields: Sequence[str], wanted: Wanted, told: Told, before: Contact, after: Contact) -> Verdict:
    """Return what became of a PUT that was to change *fields*: it was answered as *told*, between two readings of the contact."""
    still = differing(after, wanted)
    missed = tuple(field for field in fields if field in still)
    # A mapped field that held what was wanted before, and does not any more: somebody else, or a script, has changed it.
    spoilt = tuple(field for field in still if field not in fields)
    beside = tuple(changed_beside(before, after, wanted))
    trace_id = None if isinstance(told, Lost) else told.trace_id
    warning = _warning(told)
    if not missed and not spoilt:
        return Verdict("pushed", tuple(fields), (), beside, None, warning, trace_id)
    if not isinstance(told, Accepted) and len(missed) == len(fields):
        may_come = isinstance(told, Lost) or told.is_timeout
        return Verdict("failed", tuple(fields), missed, beside, _said(told), None, trace_id, is_open=may_come)
    taken_back = (*missed, *spoilt)
    return Verdict("partly", tuple(fields), taken_back, beside, _not_taken(taken_back), warning, trace_id)


def shall_clear_again(wanted: Wanted, after: Contact) -> bool:
    """Return whether a field that was cleared by null still shows its value: an empty text may do, and is tried once."""
    return any(wanted[field] is None for field in differing(after, wanted))


def _warning(told: Told) -> str | None:
    """Return what to say of an answer where the contact shows that the write was done."""
    match told:
        case Accepted(code=None):
            return None
        case Accepted():
            return f"{told.code}: the write was done, and a script of the agency failed after it"
        case Refusal():
            return f"the write was done, although the answer was {told}"
        case Lost():
            return f"the write was done, although no whole answer came ({told.trouble})"


def _said(told: Refusal | Lost) -> str:
    if isinstance(told, Lost):
        return f"no whole answer ({told.trouble}), and the contact does not show it yet"
    return GONE if told.status == 404 else str(told)


def _not_taken(fields: Sequence[str]) -> str:
    return f"did not take: {', '.join(fields)}"
