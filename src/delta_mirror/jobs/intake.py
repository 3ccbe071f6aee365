"""Taking Nexus messages into the mirror: read, put in their places, logged, a batch in each transaction.

Invariants:

- Of a batch everything is committed together, or nothing: whoever hands messages over may let go of them once `take` returns.
- What the mirror holds afterwards is what all messages ever taken give in order of their own times. In which order they came,
  in which batches, how often, and where a run was killed, makes no difference.
- A message is known by the broker's id, else by its content. One that comes again changes nothing. Two messages under one id of
  the broker are still two: the second is known by its content.
- The same content in other bytes is the same message, and stands at two places among those of its moment, which its bytes
  tell apart: at both, so that it makes no difference which came first.
- Nothing that is handed over is lost: what cannot be read stands in the log of messages and in quarantine, whole, but for what
  `[mirror.mask]` takes away of it. That is gone before anything else is done: the message is what is left.
- The log of changes tells of every message that changed something, in the order in which they were taken.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from delta_mirror.core.fold import Content, Held, Place
from delta_mirror.core.model import Row
from delta_mirror.core.plan import Counts
from delta_mirror.mirror.file import own_time
from delta_mirror.mirror.nexus import ChangedClient, NexusTables, Taken, as_text
from delta_mirror.mirror.read import SetAside
from delta_mirror.mirror.schema import CannotBeStoredError
from delta_mirror.mirror.transaction import Transaction
from delta_mirror.mirror.write import Mirror
from delta_mirror.nexus.delivery import Delivery, Outcome
from delta_mirror.nexus.differences import find_differences
from delta_mirror.nexus.masking import mask_delivery
from delta_mirror.nexus.message import NOTHING_UNKNOWN, Message, Unreadable, hash_of, read_message
from delta_mirror.nexus.sections import BY_NAME, CLIENT_TABLE, LAYOUTS, table_of

ENTITY = CLIENT_TABLE  # as the log of changes names a client


@dataclass(slots=True)
class Tallied:
    """How many messages met which outcome, and what they did: clients made and changed, things new in quarantine."""

    applied: int = 0
    superseded: int = 0
    quarantined: int = 0
    repeated: int = 0
    erased: int = 0
    inserted: int = 0
    replaced: int = 0
    unchanged: int = 0
    new_in_quarantine: int = 0

    @property
    def messages(self) -> int:
        """How many messages there were."""
        return self.applied + self.superseded + self.quarantined + self.repeated + self.erased

    def counts(self) -> Counts:
        """Return them as a run counts."""
        return Counts(
            inserted=self.inserted,
            replaced=self.replaced,
            unchanged=self.unchanged + self.erased,
            superseded=self.superseded,
            quarantined=self.new_in_quarantine,
        )

    def add(self, other: "Tallied") -> None:
        """Add what *other* counts."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Intake:
    """Takes deliveries into *mirror*; *source* is what quarantine says of where a thing came from.

    `durable` makes every commit survive a power failure, too. `is_retry` says that what is handed over was taken before, and
    does not count as another time. `said` has, in words, which columns were made.
    """

    def __init__(self, mirror: Mirror, run_id: int, *, source: str, durable: bool = False, is_retry: bool = False) -> None:
        self.tallied = Tallied()
        self.said: list[str] = []
        self._mirror = mirror
        self._run_id = run_id
        self._source = source
        self._is_retry = is_retry
        self._times = 0 if is_retry else 1
        self._tables: NexusTables | None = None
        if durable:
            mirror.be_durable()

    def take(self, deliveries: Sequence[Delivery]) -> list[Outcome]:
        """Return what became of *deliveries*, in their order.

        All of it is committed by then. Where it raises, nothing of it is in the mirror, and the same may be taken again.
        """
        erased = [self._is_of_erased(delivery) for delivery in deliveries]  # as it came: what is masked may name nobody any more
        if self._mirror.mask and not self._is_retry:  # what is tried again was masked when it was kept
            deliveries = [mask_delivery(self._mirror.mask, delivery) for delivery in deliveries]
        read = [read_message(delivery) for delivery in deliveries]
        taken = [place for place, is_out in enumerate(erased) if not is_out]
        try:
            with self._mirror.transaction() as tx:
                batch = self._begin(tx)
                batch.leave_out([delivery for delivery, is_out in zip(deliveries, erased, strict=True) if is_out])
                batch.take([deliveries[place] for place in taken], [read[place] for place in taken])
        except BaseException:
            self._tables = None  # what was made in there is gone with it
            raise
        self.tallied.add(batch.tallied)
        self.said += tx.said
        outcomes = iter(batch.outcomes)
        return ["erased" if is_out else next(outcomes) for is_out in erased]

    def _is_of_erased(self, delivery: Delivery) -> bool:
        """Return whether a message is of a client who was erased, or names one where it cannot be read of whom it is."""
        erased = self._mirror.erased
        if erased is None:
            return False
        read = read_message(delivery)
        client_id = read.place.client_id if isinstance(read, Message) else read.client_id
        if client_id is None:
            return erased.is_named_in(0, ENTITY, delivery.body.decode(errors="replace"))
        return erased.find(0, ENTITY, client_id) is not None

    def _begin(self, tx: Transaction) -> "_Batch":
        if self._tables is None:
            self._tables = _tables()
            self._tables.load(tx)
        return _Batch(tx, self._tables, self._run_id, self._source, self._times, own_time(self._mirror.now()))


def take_again(mirror: Mirror, run_id: int, thing: SetAside) -> tuple[Outcome | None, str | None, Intake]:
    """Take a message anew that is in quarantine; return what became of it, None where it is not there any more, and why."""
    intake = Intake(mirror, run_id, source="quarantine retry", is_retry=True)
    with mirror.transaction() as tx:
        found = _tables().aside(tx, thing.id)
    if found is None:
        return None, None, intake
    message_id, sequence, body = found
    # What could not be read at all is known by the hash of its bytes: if it can be now, it has a better name.
    delivery = Delivery(body, None if message_id == hash_of(body) else message_id, sequence)
    read = read_message(delivery)
    if isinstance(read, Unreadable):
        return "quarantined", read.reason, intake
    [outcome] = intake.take([delivery])
    return outcome, thing.reason if outcome == "quarantined" else None, intake


def make_tables(mirror: Mirror) -> None:
    """Make the tables that are missing, so that they are there from the first run on, whatever it brings."""
    with mirror.transaction() as tx:
        _tables().load(tx)


def _tables() -> NexusTables:
    of_clients = {section.name: section.columns for section in BY_NAME.values() if section.table == CLIENT_TABLE}
    return NexusTables(LAYOUTS, table_of, of_clients)


class _Batch:
    """One batch within its transaction."""

    def __init__(self, tx: Transaction, tables: NexusTables, run_id: int, source: str, times: int, now: str) -> None:
        self.tallied = Tallied()
        self.outcomes: list[Outcome] = []
        self._tx = tx
        self._tables = tables
        self._run_id = run_id
        self._source = source
        self._times = times
        self._now = now
        self._before: dict[str, str] = {}  # outcomes of those that were taken before, in this batch or an earlier one
        self._held: dict[Place, Held] = {}
        self._touched: dict[Place, Held] = {}
        self._clients: dict[str, Row] = {}
        self._new_clients: dict[str, None] = {}
        self._taken: list[Taken] = []
        self._again: Counter[str] = Counter()
        self._aside: list[tuple[Taken, str]] = []
        self._changes: list[ChangedClient] = []
        self._left_quarantine = 0

    def leave_out(self, deliveries: Sequence[Delivery]) -> None:
        """Count messages of clients who were erased; where one was kept because nobody could read whose it was, it goes."""
        self.tallied.erased += len(deliveries)
        if deliveries and self._tables.has_aside(self._tx):
            ids = {id_ for each in deliveries for id_ in (each.message_id, hash_of(each.body)) if id_ is not None}
            self._left_quarantine += len(self._tables.forget_unread(self._tx, ids))

    def take(self, deliveries: Sequence[Delivery], read: Sequence[Message | Unreadable]) -> None:
        """Carry out all of it."""
        tx, tables = self._tx, self._tables
        ids = self._name(deliveries, read)
        self._before = tables.outcomes(tx, ids)
        fitted = [self._fit(each) for each in read]
        earlier = self._forget_unread(deliveries, fitted)
        places = dict.fromkeys(each.place for each in fitted if isinstance(each, Message))
        self._clients = tables.client_rows(tx, places)
        self._held = tables.held(tx, places, self._clients)
        for id_, delivery, each, times in zip(ids, deliveries, fitted, earlier, strict=True):
            self.outcomes.append(self._take_one(id_, delivery, each, times))
        self._write()

    def _name(self, deliveries: Sequence[Delivery], read: Sequence[Message | Unreadable]) -> list[str]:
        """Return the ids under which the messages are known."""
        named = [delivery.message_id or each.key for delivery, each in zip(deliveries, read, strict=True)]
        by_broker = [delivery.message_id for delivery in deliveries if delivery.message_id]
        if by_broker:
            stored = self._tables.bodies(self._tx, dict.fromkeys(by_broker))
            first = {id_: read_message(Delivery(body)).key for id_, body in stored.items()}
            for place, each in enumerate(read):
                if first.setdefault(named[place], each.key) != each.key:
                    named[place] = each.key
        return named

    def _fit(self, each: Message | Unreadable) -> Message | Unreadable:
        """Return a message with the columns that the tables have for what they did not know."""
        if isinstance(each, Unreadable) or each.unknown == NOTHING_UNKNOWN:
            return each
        place = each.place
        try:
            columns, below = self._tables.spell(self._tx, place, each.unknown.keys, each.unknown.below)
        except CannotBeStoredError as error:
            return Unreadable(each.key, str(error), place.client_id)
        values = {columns.get(name, name): _renamed(value, below) for name, value in each.statement.values.items()}
        return each._replace(statement=each.statement._replace(values=values))

    def _forget_unread(self, deliveries: Sequence[Delivery], fitted: Sequence[Message | Unreadable]) -> list[int]:
        """Let go of what could not be read when it was last taken, and can be now; return how often each was taken as such."""
        if not self._tables.has_aside(self._tx):
            return [0] * len(fitted)
        unread = [hash_of(each.body) if isinstance(now, Message) else "" for each, now in zip(deliveries, fitted, strict=True)]
        times = self._tables.forget_unread(self._tx, dict.fromkeys(filter(None, unread)))
        self._left_quarantine += len(times)
        return [times.pop(id_, 0) for id_ in unread]

    def _take_one(self, id_: str, delivery: Delivery, each: Message | Unreadable, earlier: int) -> Outcome:
        known = self._before.get(id_)
        if known not in (None, "quarantined"):
            self._again[id_] += self._times
            self.tallied.repeated += 1
            if isinstance(each, Message) and each.place in self._held:
                self._put(each, self._held[each.place])
            return "repeated"
        times = self._times + earlier
        if isinstance(each, Unreadable):
            outcome: Outcome = "quarantined"
            taken = Taken(
                id_, self._now, None, each.client_id, None, None, outcome, times, delivery.sequence, as_text(delivery.body)
            )
            self._aside.append((taken, each.reason))
            self.tallied.quarantined += 1
        else:
            outcome = self._apply(each)
            taken = Taken(
                id_,
                self._now,
                each.occurred_at,
                each.place.client_id,
                each.type,
                each.section,
                outcome,
                times,
                delivery.sequence,
                as_text(delivery.body),
            )
            if known is not None:
                self._tables.release(self._tx, [id_])
        self._left_quarantine += known is not None
        self._before[id_] = outcome
        self._taken.append(taken)
        return outcome

    def _apply(self, message: Message) -> Outcome:
        """Apply a message that was not taken before; return whether it was the newest of its place."""
        place, tallied = message.place, self.tallied
        held = self._held.get(place)
        if held is None:
            held = self._held[place] = Held()
        # The newest one itself comes here only when its row in the log is gone: `prune` has forgotten it.
        is_older = message.statement.order <= held.newest
        has_changed = self._put(message, held)
        if is_older:
            tallied.superseded += 1
            return "superseded"
        tallied.unchanged += not has_changed
        tallied.applied += 1
        return "applied"

    def _put(self, message: Message, held: Held) -> bool:
        """Put *message* in its place, of which *held* is held; note what that has changed, and return whether it has."""
        place, tallied = message.place, self.tallied
        before = dict(held.values) if held.is_there else None
        if held.take(message.statement):
            self._touched[place] = held
        if place.client_id not in self._clients:
            self._clients[place.client_id] = {}
            self._new_clients[place.client_id] = None
            self._changes.append(ChangedClient(place.client_id, None))
            tallied.inserted += 1
            return True
        fields = find_differences(place, before, held.values if held.is_there else None)
        if fields:
            self._changes.append(ChangedClient(place.client_id, fields))
            tallied.replaced += 1
        return bool(fields)

    def _write(self) -> None:
        tx, tables, tallied = self._tx, self._tables, self.tallied
        tables.write(tx, self._touched, self._new_clients)
        tables.log_messages(tx, self._taken, self._again)
        tables.log_changes(tx, self._changes, ENTITY, self._run_id, self._now)
        for taken, reason in self._aside:
            tallied.new_in_quarantine += tables.set_aside(tx, taken, reason, self._run_id, self._source)
        tx.count(self._run_id, tallied.counts())
        tally = tables.read_tally(tx)
        tally.applied += tallied.applied
        tally.superseded += tallied.superseded
        tally.quarantined += tallied.quarantined - self._left_quarantine
        tally.repeated += tallied.repeated
        tally.clients += tallied.inserted
        dates = [taken.occurred_at for taken in self._taken if taken.occurred_at]
        if self._taken or self._again:
            tally.last_received_at = self._now
        tally.last_occurred_at = max([*filter(None, [tally.last_occurred_at]), *dates], default=None)
        tables.keep_tally(tx, tally)


def _renamed(value: Content | None, below: Mapping[str, str]) -> Content | None:
    if not below or not isinstance(value, list):
        return value
    return [{below.get(name, name): inner for name, inner in row.items()} for row in value]
