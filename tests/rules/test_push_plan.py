"""What became of a PUT: the decisions as a table."""

from typing import Any

import pytest

from delta_mirror.accela.contact import Contact, marks
from delta_mirror.accela.push_plan import (
    Accepted,
    Lost,
    Refusal,
    Told,
    Verdict,
    judge,
    judge_refusal,
    settle_left,
    shall_clear_again,
)
from delta_mirror.core.links import Left, Who

WANTED = {"firstName": "Bea", "lastName": "Example", "email": "b@example.com"}
BEFORE: Contact = {"firstName": "Ann", "lastName": "Example", "email": "a@example.com", "comment": "x"}
DONE: Contact = {**BEFORE, "firstName": "Bea", "email": "b@example.com"}
HALF: Contact = {**BEFORE, "firstName": "Bea"}
FIELDS = ("firstName", "email")

FINE = Accepted("t-1")
SCRIPT = Accepted("t-1", "emse_error")
BROKEN = Refusal(500, "internal_server_error", "t-1")
LOST = Lost("time is out")
GATEWAY = Refusal(504, "status_504", "t-1")


@pytest.mark.parametrize(
    ("told", "after", "outcome", "missed", "is_open"),
    [
        (FINE, DONE, "pushed", (), False),
        (SCRIPT, DONE, "pushed", (), False),
        (BROKEN, DONE, "pushed", (), False),
        (LOST, DONE, "pushed", (), False),
        (FINE, HALF, "partly", ("email",), False),
        (SCRIPT, HALF, "partly", ("email",), False),
        (BROKEN, HALF, "partly", ("email",), False),
        (LOST, HALF, "partly", ("email",), False),
        (FINE, BEFORE, "partly", FIELDS, False),
        (SCRIPT, BEFORE, "partly", FIELDS, False),
        (BROKEN, BEFORE, "failed", FIELDS, False),
        (LOST, BEFORE, "failed", FIELDS, True),
        (GATEWAY, BEFORE, "failed", FIELDS, True),  # it has given up waiting, and a slow script need not have
        # A mapped field that was right before is wrong now: somebody else, or a script.
        (FINE, {**DONE, "lastName": "Else"}, "partly", ("lastName",), False),
    ],
)
def test_the_contact_decides_what_became_of_a_put(
    told: Told, after: Contact, outcome: str, missed: tuple[str, ...], is_open: bool
) -> None:
    verdict = judge(FIELDS, WANTED, told, BEFORE, after)

    assert (verdict.outcome, verdict.missed, verdict.is_open, verdict.fields) == (outcome, missed, is_open, FIELDS)
    assert (verdict.error is None) == (outcome == "pushed")
    assert (verdict.trace_id, verdict.beside) == (None if told is LOST else "t-1", ())


@pytest.mark.parametrize(
    ("told", "warning"),
    [
        (FINE, None),
        (SCRIPT, "emse_error: the write was done, and a script of the agency failed after it"),
        (BROKEN, "the write was done, although the answer was internal_server_error (status 500)"),
        (LOST, "the write was done, although no whole answer came (time is out)"),
    ],
)
def test_a_write_that_was_done_despite_its_answer_is_pushed_with_a_warning(told: Told, warning: str | None) -> None:
    assert judge(FIELDS, WANTED, told, BEFORE, DONE).warning == warning


def test_what_somebody_else_changed_is_named_as_far_as_the_second_reading_shows() -> None:
    for after in (DONE, HALF, BEFORE):
        assert judge(FIELDS, WANTED, BROKEN, BEFORE, {**after, "comment": "y"}).beside == ("comment",)


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (Refusal(404, "resource_not_found"), "the contact is gone (404); mend the link, or remove it"),
        (Refusal(400, "data_validation_error", "t", ("gender",)), "data_validation_error (status 400), naming gender"),
        (Refusal(403, "forbidden"), "forbidden (status 403)"),
    ],
)
def test_a_refusal_that_says_that_nothing_was_written_is_believed(refusal: Refusal, error: str) -> None:
    assert refusal.is_final
    assert judge_refusal(FIELDS, refusal) == Verdict("failed", FIELDS, FIELDS, error=error, trace_id=refusal.trace_id)


@pytest.mark.parametrize("status", [302, 408, 500, 502, 503, 504])
def test_any_other_refusal_says_nothing_of_what_was_written(status: int) -> None:
    assert not Refusal(status, "x").is_final


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (DONE, Verdict("pushed", FIELDS)),
        (HALF, Verdict("partly", FIELDS, ("email",), error="did not take: email")),
        (
            BEFORE,
            Verdict("failed", FIELDS, FIELDS, error="its answer never came, and the contact does not show it; it is sent again"),
        ),
    ],
)
def test_a_push_that_was_left_behind_is_settled_by_what_it_was_to_leave_in_the_contact(after: Contact, expected: Verdict) -> None:
    left = Left(1, Who("NexusClient", 0, 0, "EX1"), "253", 7, marks("253", WANTED, FIELDS))

    assert settle_left(left, after) == expected


@pytest.mark.parametrize(
    ("wanted", "after", "again"),
    [
        ({"email": None}, {"email": "x"}, True),
        ({"email": None}, {"email": None}, False),
        ({"email": None, "fax": "1"}, {"email": "", "fax": "2"}, False),
    ],
)
def test_a_field_is_cleared_once_more_only_where_it_still_shows_its_value(wanted: Any, after: Any, again: bool) -> None:
    assert shall_clear_again(wanted, after) is again
