"""A Starter Export of a salon that is too large for a world: written record by record, never held.

Invariants:

- Everything follows from the seed. Two exports of one seed differ by what they are told to differ by, and by nothing else.
- Keys are random, as the service's are. Dates lie in the year before the export, the newest a week before it.
- What a world adopts of it, the feed shows as the export has it.

    bulk = Bulk(day="20260504", clients=100_000, sales=250_000, lines=4)
    write_bulk(folder, bulk)
    adopt(world, bulk, clients=100, sales=100)
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from random import Random

from delta_mirror.simulator.clock import DAY, SECOND, Moment
from delta_mirror.simulator.export import Columns, Kind, TableFile, file_name
from delta_mirror.simulator.salon import ACTIVE, Body, RowVersion
from delta_mirror.simulator.world import World

_SPAN = 365 * DAY  # that the records' dates are spread over
_LAST = 7 * DAY  # before the export, in which nothing has changed: what is newer than its watermark belongs to the deltas


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulk:
    """How large an export is, and how it differs from another one of its seed.

    Attributes:
        day: the date of the run, `YYYYMMDD`; the same for exports that are to be alike.
        lines: of each sale.
        changed: the share of sales that are not as they were: another total, another price of one line.
        missing: the share of sales that are not there.
    """

    day: str
    seed: int = 1
    tenant: int = 11
    location: int = 9
    clients: int = 0
    phones: int = 1
    sales: int = 0
    lines: int = 4
    changed: float = 0.0
    missing: float = 0.0

    @property
    def begin(self) -> int:
        """The ticks of the oldest record."""
        return (date.fromisoformat(self.day) - date(1, 1, 1)).days * DAY - _LAST - _SPAN


def write_bulk(folder: Path, bulk: Bulk) -> Path:
    """Write the export below *folder*; return the folder of its location."""
    place = folder / f"Tenant{bulk.tenant}" / f"Location{bulk.location}"
    place.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        files = {
            table: stack.enter_context(TableFile(place / file_name(table, bulk.day), columns))
            for table, columns in _COLUMNS.items()
            if bulk.clients or not table.startswith("Client")
            if bulk.sales or not table.startswith("Sale")
        }
        for client, phones in clients_of(bulk):
            files["Client"].add(client)
            for phone in phones:
                files["ClientPhone"].add(phone)
        for sale, lines in sales_of(bulk):
            files["Sale"].add(sale)
            for line in lines:
                files["SaleLine"].add(line)
    return place


def adopt(world: World, bulk: Bulk, *, clients: int = 0, sales: int = 0) -> None:
    """Put the first records of an export into *world*, where they may change: so many clients and so many sales."""
    for (client, phones), _ in zip(clients_of(bulk), range(clients), strict=False):
        key = client["Client_TId"]
        body = {"EntityId" if name == "Client_TId" else name: value for name, value in client.items()}
        _adopt(world, bulk, "Client", str(key), {**body, "ClientPhone_T": list(phones)} if phones else body)
    for (sale, lines), _ in zip(sales_of(bulk), range(sales), strict=False):
        _adopt(world, bulk, "Sale", str(sale["EntityId"]), {**sale, "SaleLine_L": list(lines)} if lines else sale)


def _adopt(world: World, bulk: Bulk, entity: str, key: str, body: Body) -> None:
    date_of_change = body["DateUpdated"]
    if not isinstance(date_of_change, Moment):
        raise TypeError("not a moment")
    world.create(
        entity,
        record_id=key,
        tenant=bulk.tenant,
        locations=(bulk.location,),
        date=date_of_change,
        birth=lambda dice, born: body,
    )


def clients_of(bulk: Bulk) -> Iterator[tuple[Body, list[Body]]]:
    """Yield the clients, each with its phones."""
    dice = Random(f"{bulk.seed}/clients")  # noqa: S311 - an export has to be the same again
    for place in range(bulk.clients):
        bits = dice.getrandbits(256)
        key = _guid(bits >> 128)
        created = Moment(bulk.begin + place * _SPAN // bulk.clients)
        client: Body = {
            "TenantId": bulk.tenant,
            "Client_TId": key,
            "HomeLocationId": bulk.location,
            "EntityVersion": RowVersion(0x0700_0000 + place),
            "CreatedBy_User_TId": _guid(bits & 0xFF),
            "DateCreated": created,
            "DateUpdated": Moment(created + bits % 1000 * SECOND),
            "FirstName": f"First{bits % 997}",
            "LastName": f"Invented-{bits % 7919}",
            "EmailAddress": f"client.{place}@example.com",
            "ZipCode": f"{bits % 9000:05}",
            "IsMinor": bits % 11 == 0,
            "AccountBalance": bits % 20_000 / 100,
            "ObjectStateEnum": ACTIVE,
        }
        if bits % 3 == 0:
            client["ExternalId"] = f"{place:06}"
        phones: list[Body] = [
            {
                "TenantId": bulk.tenant,
                "Client_TId": key,
                "PhoneTypeEnum": 31 + number % 3,
                "CountryCode": "1",
                "PhoneNumber": f"55501{(bits + number) % 100:02}",
                "UseForTextMarketing": number == 0,
            }
            for number in range(bulk.phones)
        ]
        yield client, phones


def sales_of(bulk: Bulk) -> Iterator[tuple[Body, list[Body]]]:
    """Yield the sales, each with its lines."""
    dice = Random(f"{bulk.seed}/sales")  # noqa: S311 - an export has to be the same again
    for place in range(bulk.sales):
        bits = dice.getrandbits(512)
        lot = bits % 1_000_003 / 1_000_003
        if lot < bulk.missing:
            continue
        yield _sale(bulk, place, bits, changed=lot < bulk.missing + bulk.changed)


def _sale(bulk: Bulk, place: int, bits: int, *, changed: bool) -> tuple[Body, list[Body]]:
    # Not by how many there are: the first of many are the same as of few.
    created = bulk.begin + bits % _SPAN
    day = _DAYS.get(created // DAY) or _DAYS.setdefault(created // DAY, f"{date.fromordinal(created // DAY + 1)}")
    key: Body = {
        "TenantId": bulk.tenant,
        "EntityId": _guid(bits >> 384),
        "LocationId": bulk.location,
        "SaleDate": day,
        "Sale_Seq": place + 1,
    }
    prices = [(bits >> 7 * number) % 9000 + 100 for number in range(bulk.lines)]
    if changed and prices:
        prices[0] += 1
    total = sum(prices)
    buyer, seller = _guid(bits >> 256), _guid(bits & 0x1F)
    updated = created + (DAY if changed else 0)
    sale: Body = {
        **key,
        "TransactionDateTime": Moment(created),
        "EntityVersion": RowVersion(0x0700_0000 + 2 * place + changed),
        "DateCreated": Moment(created),
        "DateUpdated": Moment(updated),
        "Client_TId": buyer,
        "Cashier_User_TId": seller,
        "SubTotal": total / 100,
        "TaxTotal": total // 10 / 100,
        "Total": (total + total // 10) / 100,
        "TipTotal": bits % 500 / 100,
        "SaleStateEnum": 2041,
        "IsRefund": False,
        "ReceiptNumber": f"{place:07}",
    }
    if changed and not prices:
        sale["Note"] = "looked at again"
    lines: list[Body] = []
    for number, price in enumerate(prices):
        lines.append(
            {
                **key,
                "SaleLine_Seq": number + 1,
                "Client_TId": buyer,
                "Employee_User_TId": seller,
                "LineTypeEnum": 2100 + number % 4,
                "ItemName": _ITEMS[(bits >> number) % len(_ITEMS)],
                "ItemCode": f"{(bits >> number) % 400:05}",
                "Quantity": 1,
                "ListPrice": price / 100,
                "FinalPrice": price / 100,
                "ComputedGuid": _guid((bits >> 8 * (number % 32)) & _128_BITS),
                "TaxAmount": price // 10 / 100,
                "DiscountAmount": 0.0,
                "IsTaxable": True,
                "IsVoid": False,
            }
        )
    return sale, lines


_128_BITS = (1 << 128) - 1
_ITEMS = ('Cut "classic"', "Colour", "Manicure", "Massage", "Blow dry", "Shampoo, 200 ml", "Conditioner", "Gift wrap")
_DAYS: dict[int, str] = {}


def _guid(bits: int) -> str:
    digits = f"{bits & _128_BITS:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _columns(spec: str) -> Columns:
    """Return the columns that *spec* names in their order, each group behind its kind: `number: TenantId; guid: EntityId`."""
    columns: Columns = {}
    for group in spec.split(";"):
        kind, _, names = group.partition(":")
        columns.update(dict.fromkeys(names.split(), _KINDS[kind.strip()]))
    return columns


_KINDS: Mapping[str, Kind] = {"number": "number", "guid": "guid", "datetime": "datetime", "version": "version", "text": "text"}

_COLUMNS = {
    "Client": _columns("""
        number: TenantId; guid: Client_TId; number: HomeLocationId; version: EntityVersion; guid: CreatedBy_User_TId;
        datetime: DateCreated DateUpdated; text: ExternalId Prefix FirstName MiddleName LastName EmailAddress ZipCode;
        guid: GuardianId; number: IsMinor AccountBalance ObjectStateEnum
    """),
    "ClientPhone": _columns("""
        number: TenantId; guid: Client_TId; number: PhoneTypeEnum; text: CountryCode PhoneNumber; number: UseForTextMarketing
    """),
    "Sale": _columns("""
        number: TenantId; guid: EntityId; number: LocationId; datetime: SaleDate; number: Sale_Seq;
        datetime: TransactionDateTime; version: EntityVersion; datetime: DateCreated DateUpdated;
        guid: Client_TId Cashier_User_TId; number: SubTotal TaxTotal Total TipTotal SaleStateEnum IsRefund;
        text: ReceiptNumber Note
    """),
    "SaleLine": _columns("""
        number: TenantId; guid: EntityId; number: LocationId; datetime: SaleDate; number: Sale_Seq SaleLine_Seq;
        guid: Client_TId Employee_User_TId; number: LineTypeEnum; text: ItemName ItemCode;
        number: Quantity ListPrice FinalPrice; guid: ComputedGuid; number: TaxAmount DiscountAmount IsTaxable IsVoid;
        text: PromotionCode Note; guid: Package_TId
    """),
}
