"""What the search has found, one case each: none of them may come back."""

import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from delta_mirror.accela.answers import Answer, read_contact
from delta_mirror.cli.report import print_json
from delta_mirror.config import load_config
from delta_mirror.dds.answers import read_tenants, read_token
from delta_mirror.dds.export import read_table
from delta_mirror.dds.export_runs import choose_runs, export_file
from delta_mirror.dds.export_tables import facts_of
from delta_mirror.errors import ConfigError, ExportError, ProtocolError
from delta_mirror.jobs.intake import Intake
from delta_mirror.mirror.write import Mirror
from delta_mirror.nexus import broker
from delta_mirror.nexus.broker import read_locked
from delta_mirror.nexus.delivery import Delivery
from delta_mirror.nexus.message import Unreadable, read_message
from fuzz import accela, arguments, calling, feed, line, messages, service, settings, sftp, starter
from fuzz.arguments import Called
from fuzz.feed import Answers
from fuzz.messages import Delivered
from fuzz.starter import Export
from nexus_messages import message

DIGITS = "7" * 4301  # one more than Python turns into a number without being asked twice
ID = "5A0C2D6E-0000-4000-8000-000000000001"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Called], None]]:
    with arguments.open_site(tmp_path_factory.mktemp("site")) as check:
        yield check


def file_of(*rows: list[str]) -> bytes:
    return ("\ufeff" + "".join("|@|".join(row) + "|$|" for row in rows)).encode("utf-16-le")


# Numbers without bounds


@pytest.mark.parametrize("sent", [DIGITS, f'"{DIGITS}"', f'"{"0" * 5000}7"'])
def test_row_version_of_thousands_of_digits_is_text(tmp_path: Path, stack: ExitStack, sent: str) -> None:
    check = stack.enter_context(feed.open_site(tmp_path))
    record = f'{{"Client_T": {{"EntityId": "{ID}", "EntityVersion": {sent}}}}}'

    check(Answers("Client", (f'{{"data": [{record}]}}'.encode(),)))


def test_row_version_of_thousands_of_digits_is_text_in_an_export(tmp_path: Path, stack: ExitStack) -> None:
    check = stack.enter_context(starter.open_site(tmp_path))
    rows = [["TenantId", "EntityId", "EntityVersion"], ["11", ID, DIGITS]]

    check(Export("Client", (("Client", file_of(*rows)),), is_bent=False))
    [batch] = read_table([file_of(*rows)], "Client_20260504.csv", facts_of("Client"))
    assert batch.rows[0][2] == DIGITS


def test_column_that_is_called_like_the_middle_of_a_marker_is_a_column() -> None:
    octets = file_of(["TenantId", "EntityId", "$", "@"], ["11", ID, "$", "@"])

    [batch] = read_table([octets], "Client_20260504.csv", facts_of("Client"))

    assert batch.columns == ("TenantId", "EntityId", "$", "@")
    assert batch.rows == [(11, ID.lower(), "$", "@")]


# More columns than a table can have


@pytest.mark.parametrize("count", [1901, 2000, 3000])
def test_export_file_with_more_columns_than_a_table_can_have_is_refused_by_name(
    tmp_path: Path, stack: ExitStack, count: int
) -> None:
    names = ["TenantId", "EntityId", *(f"Column{number}" for number in range(count - 2))]
    rows = [names, ["11", ID, *([""] * (count - 2))]]
    check = stack.enter_context(starter.open_site(tmp_path))

    check(Export("Client", (("Client", file_of(*rows)),), is_bent=False))
    with (
        Mirror.open(tmp_path / "own.db") as mirror,
        pytest.raises(ExportError, match=rf"Client_\d+.csv: it has {count:,} columns"),
    ):
        starter._load(mirror, tmp_path / "own.db", Export("Client", (("Client", file_of(*rows)),), is_bent=False))


def test_message_with_more_keys_than_its_table_can_have_widens_no_table(tmp_path: Path) -> None:
    with Mirror.open(tmp_path / "mirror.db") as mirror:
        intake = Intake(mirror, mirror.begin_run("nexus ingest"), source="nexus ingest")
        wide = message("Personal Details", {f"Column{number}": number for number in range(1901)})

        assert intake.take([Delivery(wide)]) == ["quarantined"]
        assert intake.said == []
        assert intake.take([Delivery(message("Personal Details", {"FavouriteColour": "green"}))]) == ["applied"]


def test_two_keys_of_a_message_that_would_share_a_column_go_to_quarantine(tmp_path: Path) -> None:
    with Mirror.open(tmp_path / "mirror.db") as mirror:
        intake = Intake(mirror, mirror.begin_run("nexus ingest"), source="nexus ingest")

        # `Status` is another section's, and so would be called PersonalStatus here.
        both = message("Personal Details", {"Status": "a", "PersonalStatus": "b"})
        assert intake.take([Delivery(both)]) == ["quarantined"]


# NUL, at which SQLite's JSON ends a text


def test_message_whose_id_has_a_nul_is_not_taken_for_another_one(tmp_path: Path) -> None:
    def delivered(id_: str, body: bytes) -> Delivery:
        properties = json.dumps({"MessageId": id_, "SequenceNumber": 1, "LockToken": "x"})
        return read_locked(broker.Answer(201, body, {"brokerproperties": properties}, 0.0), messages.BASE).delivery

    first, second = message(details={"FirstName": "Ada"}), message(details={"FirstName": "Eve"}, client="EX2")
    with Mirror.open(tmp_path / "mirror.db") as mirror:
        intake = Intake(mirror, mirror.begin_run("nexus receive"), source="nexus receive")

        assert intake.take([delivered("a", first), delivered("a\0b", second)]) == ["applied", "applied"]
        assert intake.take([delivered("a\0b", second)]) == ["repeated"]


@pytest.mark.parametrize(
    "body",
    [
        message(client="EX1\0"),
        message("Address Details", {"AddressType": "Home"}, identifier="A1\0"),
        message("Address Details", {"AddressType": "Ho\0me"}),
        message(None, {}, type_="No\0te", identifier="A1"),
    ],
)
def test_message_that_is_looked_up_by_a_text_with_a_nul_goes_to_quarantine(body: bytes) -> None:
    read = read_message(Delivery(body))

    assert isinstance(read, Unreadable)
    assert "NUL" in read.reason


def test_row_of_an_export_whose_key_has_a_nul_is_set_aside(tmp_path: Path) -> None:
    rows = [["TenantId", "EntityId", "FirstName"], ["11", ID, "Ada"], ["11", ID + "\0", "Eve"]]
    with Mirror.open(tmp_path / "mirror.db") as mirror:
        loaded = starter._load(mirror, tmp_path / "mirror.db", Export("Client", (("Client", file_of(*rows)),), is_bent=False))

    assert loaded.counts.inserted == 1
    assert [(aside.table, aside.rows) for aside in loaded.aside] == [("Client", 1)]


# Memory


def test_memory_does_not_grow_with_how_long_the_names_in_messages_are() -> None:
    def take(number: int) -> None:
        long = f"{number}" * 200_000
        read_message(Delivery(message(long, reason=f"{long} Updated", type_=f"{long} Note", identifier="A1")))

    take(10)
    tracemalloc.start()
    try:
        for number in range(11, 31):
            take(number)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2_000_000


# The command line


@pytest.mark.parametrize(
    "said",
    [
        ("changes", "--run", "9223372036854775808"),
        ("changes", "--tenant", "9223372036854775808"),
        ("changes", "--run", "-92233720368547758089"),
        ("changes", "--id", "\udcff"),
        ("refetch", "Client", "\udcff"),
    ],
)
def test_argument_that_no_column_can_hold_is_refused(call: Callable[[Called], None], said: tuple[str, ...]) -> None:
    call(Called(said))
    assert calling.call(said).code == 2


@pytest.mark.parametrize(
    "said",
    [
        ("quarantine", "list"),
        ("quarantine", "list", "--json"),
        ("status",),
        ("doctor", "--json"),
        ("changes", "--json"),
        ("status", "\x1b[2J"),
        ("\x1b]0;title\a",),
        ("--log-format", "json", "nexus", "ingest", "\u202e"),
    ],
)
def test_what_is_printed_steers_no_terminal(call: Callable[[Called], None], said: tuple[str, ...]) -> None:
    call(Called(said))


def test_json_that_is_printed_is_the_same_json_with_nothing_that_steers_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    held = {"name": "a\x9b2J\u202e😀é\ue000"}
    print_json(held)

    printed = capsys.readouterr().out
    assert printed.removesuffix("\n").isprintable()
    assert json.loads(printed) == held
    assert "é" in printed


# Files without an end


def test_configuration_and_secret_that_lead_to_a_device_without_an_end_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load_config(Path("/dev/zero"))
    path = tmp_path / "config.toml"
    path.write_text('[dds]\nclient_id = "x"\nclient_secret = "file:/dev/zero"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"client_secret .* larger than 1 MiB"):
        load_config(path)


def test_links_in_a_line_without_an_end_are_refused(call: Callable[[Called], None]) -> None:
    call(Called(("accela", "link", os.devnull)))
    assert calling.call(("accela", "link", "/dev/zero")).code == 2


def test_refusal_shows_the_beginning_of_a_long_value(tmp_path: Path, stack: ExitStack) -> None:
    check = stack.enter_context(settings.open_site(tmp_path))
    for key in ("deletes", "mode", "path"):
        check(f'[mirror]\n{key} = "{"9" * 50_000}"'.encode())
    check(f'[http]\nca_file = "{"9" * 50_000}"'.encode())


def test_activity_is_stored_whole(tmp_path: Path, stack: ExitStack) -> None:
    check = stack.enter_context(messages.open_site(tmp_path))
    body = message(None, {"Text": "a\u2028b", "Deep": [[1e400 > 1, {"a": None}]]}, type_="Note", identifier="A1")
    check(Delivered((Delivery(body),), (), body, can_be_listed=False))


# The DDS, beside its feed


@pytest.mark.parametrize("named", ["[" * 1000 + "]" * 1000, '{"a":' * 1000 + "1" + "}" * 1000, "1e400", "null", "true", '"NaN"'])
def test_token_whose_life_is_nested_or_no_number_serves_as_one_without(named: str) -> None:
    plain = read_token(b'{"access_token": "x"}', 0.0)

    try:
        assert read_token(f'{{"access_token": "x", "expires_in": {named}}}'.encode(), 0.0).renew_at == plain.renew_at
    except ProtocolError:
        assert named == "1e400", "only what orjson does not read is refused"


@pytest.mark.parametrize("id_", [2**63, 2**64 - 1, 2**64, 0, -1])
def test_location_whose_id_no_column_holds_is_left_out(tmp_path: Path, stack: ExitStack, id_: int) -> None:
    check = stack.enter_context(service.open_site(tmp_path))
    listed = f'[{{"tenantId": 11, "locations": [9, {id_}], "publicApiUrl": "http://here"}}, {{"tenantId": {id_}, "id": 8}}]'

    check(service.Answers(tokens=(), tenants=(line.plain(listed.encode()),), pages=(), enums=(), is_listed=True))
    assert [tenant.locations for tenant in read_tenants(listed.encode()).values()] == [(9,), ()]


# Accela


@pytest.mark.parametrize("contact", ['{"id": "1", "email": "a", "email": "b"}', '{"id": "1", "x": [{"a": {"b": 1, "b": 1}}]}'])
def test_contact_in_which_a_name_stands_twice_is_not_read(contact: str) -> None:
    with pytest.raises(ProtocolError, match="a name stands twice"):
        read_contact(Answer(200, f'{{"result": [{contact}], "status": 200}}'.encode(), {}, 0.0), "1")


def test_cookie_of_one_answer_goes_with_no_other_request(tmp_path: Path, stack: ExitStack) -> None:
    check = stack.enter_context(accela.open_site(tmp_path))
    granted = line.plain(b'{"access_token": "x"}', headers=[("Set-Cookie", "a=b")])

    check(accela.Answers(tokens=(granted,), readings=(), writings=()))


# SFTP


@pytest.mark.parametrize(
    "entry",
    [
        sftp.Entry("folder", "endless", None, None),
        sftp.Entry("folder", "failing", None, None, reason="x" * 100_000),
        sftp.Entry("Tenant11/Location9/Client_20260504.csv", "file", 7, 0),
        sftp.Entry("a\0b", "folder", None, None),
        sftp.Entry("é" * 10_000, "folder", None, None),
    ],
    ids=lambda entry: entry.kind,
)
def test_host_that_lists_what_no_host_has_is_read_as_far_as_that_goes(
    tmp_path: Path, stack: ExitStack, entry: sftp.Entry
) -> None:
    check = stack.enter_context(sftp.open_site(tmp_path))
    check(sftp.Host((sftp.Entry("Tenant11", "folder", None, None, (entry,)), entry), 0, 0))


def test_names_that_are_passed_over_are_not_shown_whole(tmp_path: Path, stack: ExitStack) -> None:
    check = stack.enter_context(sftp.open_site(tmp_path))
    names = (sftp.Entry(f"{number}{'x' * 900}", "file", 7, 0) for number in range(50))
    place = sftp.Entry("Tenant11", "folder", None, None, (sftp.Entry("Location9", "folder", None, None, tuple(names)),))

    check(sftp.Host((place,), 0, 0))
    files = [
        export_file((11, 9), "/Tenant11/Location9", f"{number}{'x' * 900}", path="", size=7, modified=0.0) for number in range(50)
    ]
    assert all(len(said) < 1000 for said in choose_runs(files, (), ["Client"]).passed_over)
