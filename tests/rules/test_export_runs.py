from collections.abc import Iterable
from datetime import date

import pytest

from delta_mirror.dds.export_runs import Choice, ExportFile, choose_runs, export_file, place_of, read_date
from delta_mirror.errors import ExportError

HERE = (11, 9)
THERE = (11, 10)
BOTH = ("Client", "Sale")


def files(*names: str, place: tuple[int, int] = HERE, under: str = "/x") -> list[ExportFile]:
    """Return files of the folder of *place*, each `Table_date.csv`."""
    folder = f"{under}/Tenant{place[0]}/Location{place[1]}"
    return [export_file(place, folder, name, path=f"{folder}/{name}", size=2, modified=1.0) for name in names]


def whole(day: str, *, place: tuple[int, int] = HERE, under: str = "/x") -> list[ExportFile]:
    names = [f"{table}_{day}.csv" for table in ("Client", "ClientPhone", "Sale", "SaleLine")]
    return files(*names, place=place, under=under)


def choose(found: Iterable[ExportFile], entities: tuple[str, ...] = BOTH, wanted: str = "") -> Choice:
    return choose_runs(found, [HERE], entities, read_date(wanted))


def read_of(choice: Choice) -> list[tuple[str, ...]]:
    """Return the dates of the runs chosen."""
    return [tuple(f"{each:%Y%m%d}" for each in run.dates) for run in choice.runs]


def tables_of(choice: Choice) -> dict[str, str]:
    """Return of the one run chosen which date each of its tables bears."""
    (run,) = choice.runs
    return {table: file.date for table, file in run.files.items()}


def said(choice: Choice) -> str:
    return "\n".join(choice.passed_over)


# What is a place, a file, a date


@pytest.mark.parametrize(
    ("folder", "place"),
    [
        ("/Tenant11/Location9", (11, 9)),
        ("Tenant11/Location9", (11, 9)),
        ("/exports/of may/TENANT011/location9/", (11, 9)),
        ("/Tenant1/Location2/Tenant11/Location9", (11, 9)),
        ("/a\n/Tenant11/Location9", (11, 9)),
        ("/Tenant11", None),
        ("/Tenant11/Location9/old", None),
        ("/Tenant11/x/Location9", None),
        ("/MyTenant11/Location9", None),
        ("/Tenant11/Location9b", None),
        ("/Tenant/Location", None),
        ("/Tenant-1/Location9", None),
    ],
)
def test_folder_of_a_location_is_known_by_its_last_two_names(folder: str, place: tuple[int, int] | None) -> None:
    assert place_of(folder) == place


def test_file_that_is_named_like_a_table_has_table_and_date_and_any_other_has_none() -> None:
    named, cut, stray = files("SaleLine_ClientUnlimitedService_L_20260501.csv", "BookingRestrictions_20250.csv", "readme.html")
    assert (named.table, named.date) == ("SaleLine_ClientUnlimitedService_L", "20260501")
    assert (cut.table, cut.date) == ("BookingRestrictions", "20250")
    assert (stray.table, stray.date) == ("", "")
    assert named.name == "/x/Tenant11/Location9/SaleLine_ClientUnlimitedService_L_20260501.csv"


def test_file_is_kept_as_it_was_seen_under_the_name_of_its_folder() -> None:
    seen = export_file(HERE, "/x/", "Client_20260501.csv", path="/y", size=3, modified=4.5)
    assert seen == ExportFile(11, 9, "Client", "20260501", "/x/Client_20260501.csv", "/y", 3, 4.5)


@pytest.mark.parametrize("text", ["", "2026050", "202605011", "20260532", "20261301", "2026-05-01", "20260501 ", "٢٠٢٦٠٥٠١"])
def test_what_is_no_date_is_none(text: str) -> None:
    assert read_date(text) is None


def test_date_is_read_in_full() -> None:
    assert read_date("20260501") == date(2026, 5, 1)


# One date, two dates


def test_one_date_is_a_run() -> None:
    choice = choose(whole("20260501"))
    assert read_of(choice) == [("20260501",)]
    assert set(tables_of(choice)) == {"Client", "ClientPhone", "Sale", "SaleLine"}
    assert choice.passed_over == []


def test_newest_complete_run_is_read_and_the_older_one_said() -> None:
    choice = choose([*whole("20260508"), *whole("20260501")])
    assert read_of(choice) == [("20260508",)]
    assert said(choice) == "/x/Tenant11/Location9: 20260501 passed over, older"


def test_dump_that_passed_midnight_is_one_run_of_two_dates() -> None:
    choice = choose(files("Client_20260430.csv", "ClientPhone_20260430.csv", "Sale_20260501.csv", "SaleLine_20260501.csv"))
    assert read_of(choice) == [("20260430", "20260501")]
    assert tables_of(choice) == {"Client": "20260430", "ClientPhone": "20260430", "Sale": "20260501", "SaleLine": "20260501"}
    assert choice.passed_over == []


def test_dates_that_are_not_adjacent_are_never_one_run() -> None:
    choice = choose(files("Client_20260429.csv", "Sale_20260501.csv"))
    assert read_of(choice) == []
    assert "20260501 passed over, not complete: without Client" in said(choice)
    assert "20260429 passed over, not complete: without Sale" in said(choice)
    assert "tenant 11, location 9: no complete run, so that nothing of this location is read" in said(choice)


def test_adjacent_dates_with_a_table_in_both_are_two_runs() -> None:
    choice = choose([*whole("20260430"), *whole("20260501")])
    assert read_of(choice) == [("20260501",)]
    assert "20260430 passed over, older" in said(choice)


def test_table_in_both_dates_is_seen_whatever_its_case() -> None:
    choice = choose(files("Client_20260430.csv", "Sale_20260430.csv", "CLIENT_20260501.csv"))
    assert read_of(choice) == [("20260430",)]
    assert "20260501 passed over, not complete: without Sale" in said(choice)


def test_run_that_is_still_being_written_gives_way_to_the_complete_one_before_it() -> None:
    choice = choose([*whole("20260430"), *files("Client_20260501.csv", "ClientPhone_20260501.csv")])
    assert read_of(choice) == [("20260430",)]
    assert "20260501 passed over, not complete: without Sale" in said(choice)


def test_of_three_dates_in_a_row_the_newest_two_that_can_be_are_one_run() -> None:
    choice = choose(files("Client_20260430.csv", "Sale_20260501.csv", "Client_20260502.csv"))
    assert read_of(choice) == [("20260501", "20260502")]
    assert "20260430 passed over, not complete: without Sale" in said(choice)


# A wanted date


def test_wanted_date_is_read_although_a_newer_run_is_there() -> None:
    choice = choose([*whole("20260508"), *whole("20260501")], wanted="20260501")
    assert read_of(choice) == [("20260501",)]
    assert said(choice) == "/x/Tenant11/Location9: 20260508 passed over, another date is wanted"


@pytest.mark.parametrize("wanted", ["20260430", "20260501"])
def test_either_date_of_a_run_of_two_names_it(wanted: str) -> None:
    choice = choose(files("Client_20260430.csv", "Sale_20260501.csv"), wanted=wanted)
    assert read_of(choice) == [("20260430", "20260501")]


def test_wanted_date_that_is_not_there_is_said() -> None:
    choice = choose(whole("20260501"), wanted="20260502")
    assert read_of(choice) == []
    assert "tenant 11, location 9: no complete run of 20260502, so that nothing of this location is read" in said(choice)


def test_wanted_date_that_is_not_complete_is_not_replaced_by_another() -> None:
    choice = choose([*whole("20260501"), *files("Client_20260508.csv")], wanted="20260508")
    assert read_of(choice) == []
    assert "20260508 passed over, not complete: without Sale" in said(choice)


# Complete


@pytest.mark.parametrize(
    ("names", "entities"),
    [
        (["Employee_20260501.csv"], ("Employee",)),
        (["Client_T_20260501.csv"], ("Client",)),
        (["sale_20260501.CSV"], ("Sale",)),
        (["EmployeeSchedule_20260501.csv"], ("EmployeeSchedule",)),
        (["TimeCard_Employee_LSchedule_20260501.csv"], ("EmployeeSchedule",)),
        (["EmployeeBreak_20260501.csv"], ("EmployeeActual",)),
    ],
)
def test_root_file_makes_an_entity_complete_and_any_file_one_without_a_root(names: list[str], entities: tuple[str, ...]) -> None:
    assert read_of(choose(files(*names), entities)) == [("20260501",)]


@pytest.mark.parametrize(
    ("names", "entities"),
    [
        (["EmployeeBio_20260501.csv", "BookingRestrictions_20260501.csv"], ("Employee",)),
        (["EmployeeClock_20260501.csv"], ("EmployeeSchedule",)),
        (["Employee_20260501.csv"], ("Employee", "EmployeeActual")),
        (["BookingRestrictions_20250.csv"], ("Employee",)),
    ],
)
def test_children_of_a_root_that_is_not_there_make_nothing_complete(names: list[str], entities: tuple[str, ...]) -> None:
    assert read_of(choose(files(*names), entities)) == []


def test_empty_root_file_counts_as_there() -> None:
    empty = export_file(HERE, "/x/Tenant11/Location9", "Client_20260501.csv", path="/p", size=0, modified=0.0)
    assert read_of(choose([empty], ("Client",))) == [("20260501",)]


# Dates that are cut off


def test_cut_date_belongs_to_the_run_whose_date_begins_with_it() -> None:
    choice = choose(files("Employee_20250501.csv", "BookingRestrictions_20250.csv"), ("Employee",))
    assert tables_of(choice) == {"Employee": "20250501", "BookingRestrictions": "20250"}
    assert choice.passed_over == []


def test_cut_date_of_a_run_of_two_dates_may_be_of_either() -> None:
    found = files("Employee_20251231.csv", "EmployeeBio_20260101.csv", "BookingRestrictions_20251.csv")
    assert "BookingRestrictions" in tables_of(choose(found, ("Employee",)))


def test_file_with_the_whole_date_is_taken_before_one_whose_date_is_cut() -> None:
    found = files("Employee_20250501.csv", "BookingRestrictions_20250.csv", "BookingRestrictions_20250501.csv")
    assert tables_of(choose(found, ("Employee",)))["BookingRestrictions"] == "20250501"


def test_each_of_several_runs_has_the_one_file_that_is_left_under_a_cut_date() -> None:
    found = files("Employee_20250501.csv", "Employee_20250508.csv", "BookingRestrictions_20250.csv")
    for wanted in ("20250501", "20250508"):
        assert "BookingRestrictions" in tables_of(choose(found, ("Employee",), wanted))


def test_cut_date_that_begins_no_date_is_said() -> None:
    choice = choose(files("Employee_20260501.csv", "BookingRestrictions_20250.csv"), ("Employee",))
    assert set(tables_of(choice)) == {"Employee"}
    assert "BookingRestrictions_20250.csv passed over, as it is of none of the dates that are here" in said(choice)


# What is not wanted


def test_strays_unknown_tables_and_unwanted_entities_are_said_each_by_its_reason() -> None:
    names = [
        "readme.html",
        "Sale_20260501.temp.csv",
        "Voucher_20260501.csv",
        "Employee_20260501.csv",
        "EmployeeClock_20260501.csv",
    ]
    choice = choose([*whole("20260501"), *files(*names)])
    assert set(tables_of(choice)) == {"Client", "ClientPhone", "Sale", "SaleLine"}
    assert sorted(choice.passed_over) == [
        "/x/Tenant11/Location9: EmployeeClock_20260501.csv passed over, as EmployeeActual is not wanted",
        "/x/Tenant11/Location9: Employee_20260501.csv passed over, as Employee is not wanted",
        "/x/Tenant11/Location9: Sale_20260501.temp.csv, readme.html passed over, as the name is not that of a table with a date",
        "/x/Tenant11/Location9: Voucher_20260501.csv passed over, as it is not known whose table it is",
    ]


def test_many_strays_are_counted_and_not_all_named() -> None:
    choice = choose([*whole("20260501"), *files(*(f"page{number}.html" for number in range(9)))])
    assert "page4.html and 4 more passed over" in said(choice)
    assert "page5" not in said(choice)
    choice = choose([*whole("20260501"), *files(*(f"page{number}.html" for number in range(5)))])
    assert "page3.html, page4.html passed over" in said(choice)


def test_no_word_is_lost_on_what_is_left_out_and_all_beside_it_is_read() -> None:
    left_out = [*files("Employee_20260501.csv"), *files("Client_20260501.csv", place=THERE)]
    beside = files("EmployeeClock_20260501.csv", "Client_20260502.csv", place=THERE)
    choice = choose_runs([*left_out, *whole("20260501")], [HERE], BOTH, None, left_out)
    assert (len(choice.runs[0].files), choice.passed_over) == (4, [])
    choice = choose_runs([*left_out, *beside, *whole("20260501")], [HERE], BOTH, None, left_out)
    assert choice.passed_over == ["tenant 11, location 10: /x/Tenant11/Location10 passed over, as this location is not wanted"]


def test_places_that_are_not_wanted_are_said_and_those_that_are_not_there_too() -> None:
    choice = choose_runs([*whole("20260501"), *whole("20260501", place=THERE)], [(12, 1), HERE], BOTH)
    assert [(run.tenant_id, run.location_id) for run in choice.runs] == [HERE]
    assert choice.passed_over == [
        "tenant 11, location 10: /x/Tenant11/Location10 passed over, as this location is not wanted",
        "tenant 12, location 1: there is no folder Tenant12/Location1 with files",
    ]


def test_without_wanted_places_every_place_is_read() -> None:
    choice = choose_runs([*whole("20260501", place=THERE), *whole("20260508")], [], BOTH)
    assert [(run.tenant_id, run.location_id) for run in choice.runs] == [HERE, THERE]
    assert read_of(choice) == [("20260508",), ("20260501",)]


def test_one_location_without_a_complete_run_does_not_stop_the_others() -> None:
    choice = choose_runs([*files("Client_20260501.csv", place=THERE), *whole("20260501")], [THERE, HERE], BOTH)
    assert [(run.tenant_id, run.location_id) for run in choice.runs] == [HERE]
    assert "tenant 11, location 10: no complete run" in said(choice)


# Twice the same


def test_two_folders_of_one_location_are_never_mixed() -> None:
    choice = choose([*files("Client_20260501.csv", under="/a"), *files("Sale_20260501.csv", under="/b")])
    assert read_of(choice) == []


def test_of_two_folders_of_one_location_the_one_with_the_newest_run_is_read() -> None:
    choice = choose([*whole("20260501", under="/a"), *whole("20260508", under="/b")])
    (run,) = choice.runs
    assert run.files["Client"].path.startswith("/b/")
    assert said(choice) == "/a/Tenant11/Location9: 20260501 passed over, older"


@pytest.mark.parametrize("wanted", ["", "20260501"])
def test_two_folders_with_the_same_run_are_refused(wanted: str) -> None:
    with pytest.raises(ExportError, match="/a/Tenant11/Location9 and /b/Tenant11/Location9 have a run of 20260501 each"):
        choose([*whole("20260501", under="/a"), *whole("20260501", under="/b")], wanted=wanted)


def test_two_files_of_one_table_and_date_are_refused() -> None:
    with pytest.raises(ExportError, match=r"CLIENT_20260501.csv and Client_20260501.csv are two files of one table and date"):
        choose(files("Client_20260501.csv", "CLIENT_20260501.csv"))
