"""The salon chain behind the simulated service: its records, and every change that was ever made to them.

Invariants:

- A change, once made, never changes: it holds the record as it was then, whole.
- A record's own dates never go back, and its versions rise with them unless they are asked to be random.
- Dates rise strictly over the whole world, but for those that are given or tied on purpose.
- A record at several locations is one record: each change of it shows in the streams of all of them.
- The same seed and the same calls give the same world.
- All of it may be read and changed from any thread.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from threading import RLock
from typing import NamedTuple

from delta_mirror.simulator import salon
from delta_mirror.simulator.clock import DAY, HOUR, Clock, Moment
from delta_mirror.simulator.salon import Birth, Body, Json, RowVersion

_FIRST_VERSION = 0x0000_0000_0700_0000
_RANDOM_VERSION_BITS = 48  # fifteen decimal digits at most: sixteen would read as hex


class Stream(NamedTuple):
    """One tenant, location and entity."""

    tenant: int
    location: int
    entity: str


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """One change: the record as it was from then on.

    Attributes:
        seq: its place among all changes of the world.
        date: what the record bears as `DateUpdated`, in ticks.
        made: when it was made; earlier than `date` where that lies ahead of the clock.
        late: ticks for which it stays hidden after it was made.
        body: what stands under the record's root key; not to be written to.
    """

    seq: int
    date: int
    made: int
    late: int
    tenant: int
    locations: tuple[int, ...]
    entity: str
    id: str
    body: Body


def in_change_order(change: Change) -> tuple[int, int]:
    """Return what changes are sorted by: their date, and among equals the order in which they were made."""
    return change.date, change.seq


class History:
    """The changes of one stream, kept in change order: all of them, and the newest of each record."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.current: list[Change] = []
        self.newest: dict[str, Change] = {}
        self.latest_by = 0  # ticks by which the latest change came late

    def add(self, change: Change) -> None:
        """Put *change* in its place; it replaces its record's earlier one in `current`."""
        earlier = self.newest.get(change.id)
        if earlier is not None:
            del self.current[bisect_left(self.current, in_change_order(earlier), key=in_change_order)]
        self.newest[change.id] = change
        self.latest_by = max(self.latest_by, change.late)
        for listing in (self.changes, self.current):
            if not listing or in_change_order(listing[-1]) < in_change_order(change):
                listing.append(change)
            else:
                insort(listing, change, key=in_change_order)


class World:
    """An invented salon chain with its own clock.

    `date` of an action is the date that the record is to bear; without it the clock gives it. `late` is for how many ticks
    the change stays hidden, counted from its date or, where that lies ahead of the clock, from now.
    """

    def __init__(
        self,
        seed: int = 1,
        *,
        tenants: Mapping[int, Sequence[int]] | None = None,
        clock: Clock | None = None,
        random_versions: bool = False,
    ) -> None:
        self.seed = seed
        self.tenants = {tenant: tuple(locations) for tenant, locations in (tenants or {11: (9, 10)}).items()}
        self.clock = clock or Clock()
        self.lock = RLock()
        self.count = 0  # changes made so far
        self._random_versions = random_versions
        self._dice = Random(f"{seed}/world")  # noqa: S311 - a world has to be the same again
        self._last_stamp = 0
        self._tied: int | None = None
        self._histories: dict[Stream, History] = {}
        self._newest: dict[str, Change] = {}
        self._ids: dict[str, list[str]] = {entity: [] for entity in salon.ROOTS}

    # --- reading -----------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """The ticks that the world's clock shows."""
        return self.clock.now

    def history(self, stream: Stream) -> History:
        """Return the changes of *stream*; read it under `lock`."""
        return self._histories.setdefault(stream, History())

    def newest(self, record_id: str) -> Change:
        """Return the newest change of a record, hidden or not.

        Raises:
            KeyError: there is no such record.
        """
        return self._newest[record_id]

    def is_deleted(self, record_id: str) -> bool:
        """Return whether the record is deleted now."""
        change = self._newest[record_id]
        return salon.is_deleted(change.entity, change.body)

    def ids(self, entity: str) -> list[str]:
        """Return the ids of all records of *entity*, deleted ones too, in the order in which they were made."""
        return list(self._ids[entity])

    def streams(self) -> list[Stream]:
        """Return the streams that something was ever changed in, sorted."""
        with self.lock:
            return sorted(stream for stream, history in self._histories.items() if history.changes)

    # --- time --------------------------------------------------------------------------------------------------------------

    def advance(self, ticks: int) -> None:
        """Move the clock forward by *ticks*."""
        self.clock.advance(ticks)

    def settle(self, lag: int = 0) -> None:
        """Move the clock forward until every change made so far is visible under *lag*."""
        with self.lock:
            hidden = [change.made + change.late + lag for change in self._newest.values()]
            self.clock.advance(max(0, max(hidden, default=0) - self.now))

    @contextmanager
    def tied(self, date: int | None = None) -> Iterator[int]:
        """Give all changes made inside one date: *date*, or that of the clock."""
        with self.lock:
            self._tied = self._stamp() if date is None else date
            try:
                yield self._tied
            finally:
                self._tied = None

    def _stamp(self) -> int:
        self._last_stamp = max(self.now, self._last_stamp + 1)
        return self._last_stamp

    # --- single changes ----------------------------------------------------------------------------------------------------

    def create(
        self,
        entity: str,
        *,
        record_id: str | None = None,
        locations: Sequence[int] | None = None,
        tenant: int | None = None,
        date: int | None = None,
        late: int = 0,
        birth: Callable[[Random, Birth], Body] | None = None,
        **columns: Json | None,
    ) -> str:
        """Return the id of a new record at *locations* (the tenant's first where none is named).

        Without a *record_id* it gets a new one. *birth* makes the body instead of the salon's own way; *columns* are set on top
        of it, None leaves one out.
        """
        with self.lock:
            tenant = next(iter(self.tenants)) if tenant is None else tenant
            places = tuple(locations or self.tenants[tenant][:1])
            record_id = record_id or salon.guid(self._dice)
            date = self._date(date)
            born = Birth(tenant, places[0], record_id, Moment(date), self._version())
            body = (birth or salon.BIRTHS[entity])(self._dice, born)
            _set(body, columns)
            self._ids[entity].append(record_id)
            self._add(tenant, places, entity, record_id, body, date, late)
            return record_id

    def alter(self, record_id: str, how: Callable[[Body], object], *, date: int | None = None, late: int = 0) -> Change:
        """Change a record by *how*, which is handed a copy of its body to write to; return the change.

        Raises:
            KeyError: there is no such record.
            ValueError: *date* is earlier than the record's own.
        """
        with self.lock:
            earlier = self._newest[record_id]
            given = date is not None or self._tied is not None
            date = self._date(date)
            if date < earlier.date and given:
                raise ValueError("a record's own dates do not go back")
            if date <= earlier.date and not given:
                date = earlier.date + 1
            body = _copy(earlier.body)
            how(body)
            body["DateUpdated"] = Moment(date)
            body["EntityVersion"] = self._version()
            return self._add(earlier.tenant, earlier.locations, earlier.entity, record_id, body, date, late)

    def edit(self, record_id: str, *, date: int | None = None, late: int = 0, **columns: Json | None) -> Change:
        """Set *columns* of a record's root row, None empties one; without any, only its date and version change."""
        return self.alter(record_id, lambda body: _set(body, columns), date=date, late=late)

    def add_phone(self, client_id: str, number: str | None = None, *, date: int | None = None, late: int = 0) -> Change:
        """Give a client one more phone."""

        def how(body: Body) -> None:
            new = salon.phone(self._dice, self._newest[client_id].tenant, client_id, number)
            body["ClientPhone_T"] = [*salon.rows(body, "ClientPhone_T"), new]

        return self.alter(client_id, how, date=date, late=late)

    def remove_phone(self, client_id: str, place: int = 0, *, date: int | None = None, late: int = 0) -> Change:
        """Take the phone at *place* from a client.

        Raises:
            IndexError: the client has no such phone.
        """
        return self.remove_child(client_id, "ClientPhone_T", place, date=date, late=late)

    def remove_child(
        self, record_id: str, table: str, place: int = 0, *, date: int | None = None, late: int = 0
    ) -> Change:  # fmt: skip
        """Take the row at *place* of the child table *table* from a record.

        Raises:
            IndexError: the record has no such row.
        """

        def how(body: Body) -> None:
            left = salon.rows(body, table)
            del left[place]
            _set(body, {table: list(left) or None})

        return self.alter(record_id, how, date=date, late=late)

    def cancel_line(self, appointment_id: str, place: int = 0, *, date: int | None = None, late: int = 0) -> Change:
        """Cancel one service line of an appointment; with its last living line the appointment is deleted."""

        def how(body: Body) -> None:
            salon.rows(body, "AppointmentService_L")[place]["AppointFinalStateEnum"] = salon.CANCELLED

        return self.alter(appointment_id, how, date=date, late=late)

    def delete(self, record_id: str, *, plain: bool = False, date: int | None = None, late: int = 0) -> Change:
        """Delete a record the way the service does; *plain* is the other way that it has for the entity.

        Raises:
            ValueError: the service does not delete records of that entity.
        """
        with self.lock:
            entity = self._newest[record_id].entity
            date_of_end = self.now if date is None else date
            return self.alter(
                record_id, lambda body: salon.mark_deleted(entity, body, date_of_end, plain=plain), date=date, late=late
            )

    def revive(self, record_id: str, *, date: int | None = None, late: int = 0) -> Change:
        """Make a deleted record live again."""
        entity = self._newest[record_id].entity
        return self.alter(record_id, lambda body: salon.mark_living(entity, body), date=date, late=late)

    def refund(self, sale_id: str, *, date: int | None = None, late: int = 0) -> str:
        """Return the id of a new sale that takes back the whole of another: the same lines with negative amounts."""
        with self.lock:
            sold = self._newest[sale_id]

            def birth(dice: Random, born: Birth) -> Body:
                body = salon.sale(dice, born)
                key = {"EntityId": born.id, "SaleDate": body["SaleDate"], "Sale_Seq": body["Sale_Seq"]}
                body["Total"] = -_number(sold.body["Total"])
                body["IsRefund"] = True
                for table, column in (("SaleLine_L", "FinalPrice"), ("SalePayment_L", "Amount")):
                    taken = salon.rows(sold.body, table)
                    body[table] = [{**row, **key, column: -_number(row[column])} for row in taken]
                return body

            return self.create("Sale", locations=sold.locations, tenant=sold.tenant, date=date, late=late, birth=birth)

    def _date(self, date: int | None) -> int:
        if date is not None:
            return date
        return self._stamp() if self._tied is None else self._tied

    def _version(self) -> RowVersion:
        if self._random_versions:
            return RowVersion(self._dice.getrandbits(_RANDOM_VERSION_BITS))
        return RowVersion(_FIRST_VERSION + self.count)

    def _add(
        self, tenant: int, locations: tuple[int, ...], entity: str, record_id: str, body: Body, date: int, late: int
    ) -> Change:  # fmt: skip
        change = Change(self.count, date, min(date, self.now), late, tenant, locations, entity, record_id, body)
        self.count += 1
        self._newest[record_id] = change
        for location in locations:
            self.history(Stream(tenant, location, entity)).add(change)
        return change

    # --- many changes ------------------------------------------------------------------------------------------------------

    def populate(
        self,
        *,
        over: int = 5 * DAY,
        tenant: int | None = None,
        locations: Sequence[int] | None = None,
        shared: float = 0.05,
        phones: int | None = None,
        clients: int = 0,
        employees: int = 0,
        appointments: int = 0,
        sales: int = 0,
        schedules: int = 0,
        actuals: int = 0,
    ) -> None:
        """Open the salon: so many records of each entity, their dates spread evenly over the last *over* ticks.

        They are spread over *locations* (all of the tenant's where none are named); a share of clients is at all of them.
        """
        with self.lock:
            tenant = next(iter(self.tenants)) if tenant is None else tenant
            places = tuple(locations or self.tenants[tenant])
            wanted = {
                "Client": clients,
                "Employee": employees,
                "Appointment": appointments,
                "Sale": sales,
                "EmployeeSchedule": schedules,
                "EmployeeActual": actuals,
            }

            def with_phones(dice: Random, born: Birth) -> Body:
                return salon.client(dice, born, phones)

            def with_buyer(dice: Random, born: Birth) -> Body:
                body = salon.sale(dice, born)
                if self._ids["Client"]:
                    buyer = dice.choice(self._ids["Client"])
                    for line in salon.rows(body, "SaleLine_L"):
                        line["Client_TId"] = buyer
                return body

            births = {"Client": with_phones, "Sale": with_buyer}
            for entity, number in wanted.items():
                begin = self.now - over
                for place in range(number):
                    everywhere = entity == "Client" and self._dice.random() < shared
                    self.create(
                        entity,
                        tenant=tenant,
                        locations=places if everywhere else (places[place % len(places)],),
                        date=begin + place * over // number,
                        birth=births.get(entity),
                    )

    def busy_hour(
        self,
        seed: int,
        changes: int,
        *,
        over: int = HOUR,
        entities: Sequence[str] = ("Client", "Employee", "Appointment", "Sale"),
    ) -> list[Change]:
        """Make so many random *changes*, while the clock moves forward by *over*; return them in order.

        The dice are the seed's, the world's and of how far the world has come, so that an hour may be had twice. On a clock
        that runs by itself, *over* belongs at 0.
        """
        with self.lock:
            dice = Random(f"{self.seed}/{seed}/{self.count}")  # noqa: S311 - a world has to be the same again
            made: list[Change] = []
            for place in range(changes):
                self.advance(over * (place + 1) // changes - over * place // changes)
                made.append(self._busy_change(dice, dice.choice(entities)))
            return made

    def _busy_change(self, dice: Random, entity: str) -> Change:
        known = self._ids[entity]
        if not known or dice.random() < 0.25:
            tenant = dice.choice(list(self.tenants))
            places = self.tenants[tenant]
            everywhere = entity == "Client" and dice.random() < 0.2
            chosen = places if everywhere else (dice.choice(places),)
            return self._newest[self.create(entity, tenant=tenant, locations=chosen)]
        record_id = dice.choice(known)
        if entity == "Sale":
            if dice.random() < 0.3:
                return self._newest[self.refund(record_id)]
            return self.edit(record_id, Total=dice.randrange(10_000) / 100)
        chance = dice.random()
        if self.is_deleted(record_id) and chance < 0.6:
            return self.revive(record_id)
        if entity in ("Client", "Employee", "Appointment") and chance < 0.2:
            return self.delete(record_id, plain=dice.random() < 0.3)
        if entity == "Client":
            return self._busy_client(dice, record_id, chance)
        if entity == "Appointment" and chance < 0.6 and (lines := self._rows(record_id, "AppointmentService_L")):
            return self.cancel_line(record_id, dice.randrange(len(lines)))
        if entity == "Employee" and chance < 0.5 and self._rows(record_id, "EmployeeCat_L"):
            return self.remove_child(record_id, "EmployeeCat_L")
        if entity in ("Employee", "Appointment"):
            return self.edit(record_id, Notes=f"note {dice.randrange(10**6)}" if chance < 0.9 else None)
        return self.edit(record_id)

    def _busy_client(self, dice: Random, record_id: str, chance: float) -> Change:
        phones = len(self._rows(record_id, "ClientPhone_T"))
        if chance < 0.35:
            return self.add_phone(record_id)
        if chance < 0.5 and phones:
            return self.remove_phone(record_id, dice.randrange(phones))
        if chance < 0.65:
            return self.edit(record_id, EmailAddress=None, MiddleName="")
        if chance < 0.95:
            return self.edit(
                record_id, EmailAddress=f"moved.{dice.randrange(10**9)}@example.com", LoyaltyPoints=dice.randrange(99)
            )
        return self.edit(record_id)

    def _rows(self, record_id: str, table: str) -> list[Body]:
        return salon.rows(self._newest[record_id].body, table)


def _set(body: Body, columns: Mapping[str, Json | None]) -> None:
    for column, value in columns.items():
        if value is None:
            body.pop(column, None)
        else:
            body[column] = value


def _copy(body: Body) -> Body:
    return {name: _copied(value) for name, value in body.items()}


def _copied(value: Json) -> Json:
    if isinstance(value, dict):
        return _copy(value)
    return [_copied(part) for part in value] if isinstance(value, list) else value


def _number(value: Json) -> float:
    if not isinstance(value, int | float):
        raise TypeError("not an amount")
    return value
