"""The DDS's answers, odd ones above all: which are asked for again, which are final, and what an operator is told."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from email.utils import formatdate
from socket import gaierror
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import responses
from urllib3 import HTTPSConnectionPool
from urllib3 import exceptions as urllib3_errors
from urllib3.connection import HTTPSConnection

from delta_mirror.calls.attempts import LONGEST_STOP
from delta_mirror.core.model import Page, PageRequest, Stream
from delta_mirror.core.values import EPOCH, SECOND
from delta_mirror.dds.api import Account, Dds, Manners
from delta_mirror.errors import (
    BudgetError,
    ConfigError,
    CredentialsError,
    DeltaMirrorError,
    LimitedError,
    ProtocolError,
    StreamRefusedError,
    UnreachableError,
)

MARKET = "https://market.example.test"
CLUSTER = "https://one.example.test"
OTHER_CLUSTER = "https://two.example.test"
CHANGES = "/publicapi/v1/cdc/entity/Client/changes"
CLIENTS = Stream(11, 9, "Client")
FIRST = PageRequest("2026-05-04T12:00:00.0000000+00:00", 0, 200, may_be_past_end=False)
LATER = replace(FIRST, number=3)
PAST_END = replace(LATER, may_be_past_end=True)
SECRET = "not-a-real-secret"
NOW = 1_777_896_000.0  # 2026-05-04T12:00:00Z
TODAY = "2026-05-04"
REFERENCE = "0f0f0f0f-0000-4000-8000-00000000e220"
EMPTY = json.dumps({"pageNumber": 0, "referenceId": REFERENCE, "data": []})
REFUSED = json.dumps({"message": "No.", "referenceId": REFERENCE})
GATEWAY = "<html><body>Bad gateway</body></html>"


class World:
    """The service's addresses with their answers, a clock that only sleeping moves, a ledger and a memory."""

    def __init__(self, answers: responses.RequestsMock) -> None:
        self.answers = answers
        self.seconds = NOW
        self.slept: list[float] = []
        self.admitted: list[Stream] = []
        self.limits: list[tuple[Stream | None, float | None]] = []
        self.budget = 1000
        self.stopped = False
        self.kept: dict[str, str] = {}
        self.random = 0.0
        self.account = Account(MARKET, "", "a-partner", SECRET)
        self.clients: list[Dds] = []
        self.issued = 0
        answers.add_callback("POST", f"{MARKET}/oauth2/token", self._token)
        self.lists(listed(CLUSTER))

    def _token(self, _: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        self.issued += 1
        return 200, {}, json.dumps({"access_token": f"token-{self.issued}", "expires_in": 3600})

    # the ledger

    def admit(self, stream: Stream) -> None:
        if len(self.admitted) >= self.budget:
            raise BudgetError("the budget of the day is spent")
        self.admitted.append(stream)

    def check(self, stream: Stream) -> None:
        if self.stopped:
            raise LimitedError("the service has told an earlier call to stop")

    def limited(self, stream: Stream | None, until: float | None) -> None:
        self.limits.append((stream, until))

    # the memory

    def remembered(self, day: str) -> str | None:
        return self.kept.get(day)

    def remember(self, day: str, body: str) -> None:
        self.kept = {day: body}

    # the clock

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds

    # what a test says and asks

    def answer(
        self, url: str, *answers: tuple[int, str] | tuple[int, str, dict[str, str]] | Exception, method: str = "GET"
    ) -> None:
        """Answer calls to *url* with these, one after the other, the last for ever."""
        self.answers.remove(method, url)
        for answer in answers:
            if isinstance(answer, Exception):
                self.answers.add(method, url, body=answer)
            else:
                headers = answer[2] if len(answer) == 3 else {}
                self.answers.add(method, url, status=answer[0], body=answer[1], headers=headers)

    def pages(self, *answers: tuple[int, str] | tuple[int, str, dict[str, str]] | Exception) -> None:
        self.answer(CLUSTER + CHANGES, *answers)

    def lists(self, *bodies: object) -> None:
        self.answer(f"{MARKET}/apps/tenant", *((200, body if isinstance(body, str) else json.dumps(body)) for body in bodies))

    def tokens(self, *answers: tuple[int, str] | tuple[int, str, dict[str, str]] | Exception) -> None:
        self.answer(f"{MARKET}/oauth2/token", *answers, method="POST")

    def dds(self, *, attempts: int = 3, max_wait: float = 60.0) -> Dds:
        """Return a client as a new run would make it."""
        dds = Dds(
            self.account,
            Manners(timeout=5.0, attempts=attempts, max_wait=max_wait, ca_file=""),
            self,
            self,
            now=self.now,
            sleep=self.sleep,
            jitter=lambda: self.random,
        )
        self.clients.append(dds)
        return dds

    def calls(self, url: str = CLUSTER + CHANGES) -> list[requests.PreparedRequest]:
        return [call.request for call in self.answers.calls if (call.request.url or "").split("?")[0] == url]

    def request_id(self) -> str:
        """Return the RequestId of the last call."""
        return parse_qs(urlsplit(self.answers.calls[-1].request.url or "").query)["RequestId"][0]


def listed(*urls: object) -> list[object]:
    return [{"tenantId": 11 + place, "publicApiUrl": url, "locations": [{"locationId": 9}]} for place, url in enumerate(urls)]


@pytest.fixture
def world() -> Iterator[World]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as answers:
        world = World(answers)
        yield world
        for dds in world.clients:
            dds.close()


# Answers that are worth another attempt


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
@pytest.mark.parametrize("body", [REFUSED, GATEWAY])
def test_a_failure_that_passes_is_asked_for_again(status: int, body: str, world: World) -> None:
    world.pages((status, body), (200, EMPTY))
    assert world.dds().fetch(CLIENTS, FIRST).entries == []
    assert world.slept == [1.0]
    assert world.admitted == [CLIENTS, CLIENTS]


@pytest.mark.parametrize("body", [GATEWAY, "Service is starting", "", '{"data": [', '"data"', "null"])
def test_what_is_not_json_is_no_page_whatever_its_status_says(body: str, world: World) -> None:
    world.pages((200, body), (200, EMPTY))
    assert world.dds().fetch(CLIENTS, FIRST).entries == []
    assert len(world.calls()) == 2


def test_a_service_that_only_ever_sends_html_is_unreachable_and_the_gateway_is_blamed(world: World) -> None:
    world.pages((200, GATEWAY))
    with pytest.raises(UnreachableError, match=r"3 attempts.*not the service's own JSON.*status 200.*gateway"):
        world.dds().fetch(CLIENTS, FIRST)
    assert len(world.calls()) == len(world.admitted) == 3


@pytest.mark.parametrize("attempts", [1, 2, 6])
def test_as_many_attempts_are_made_as_are_allowed(attempts: int, world: World) -> None:
    world.pages((500, REFUSED))
    with pytest.raises(UnreachableError) as refused:
        world.dds(attempts=attempts).fetch(CLIENTS, FIRST)
    assert len(world.calls()) == len(world.admitted) == attempts
    for part in ("page 0 of Client of tenant 11, location 9", "status 500", REFERENCE, world.request_id()):
        assert part in str(refused.value)


def test_pauses_double_from_one_second_and_end_at_the_longest_allowed(world: World) -> None:
    world.pages((500, REFUSED))
    with pytest.raises(UnreachableError):
        world.dds(attempts=6, max_wait=5.0).fetch(CLIENTS, FIRST)
    assert world.slept == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_pauses_are_spread_so_that_streams_do_not_ask_in_step(world: World) -> None:
    world.pages((500, REFUSED))
    world.random = 0.5
    with pytest.raises(UnreachableError):
        world.dds(attempts=4).fetch(CLIENTS, FIRST)
    assert world.slept == [1.5, 3.0, 6.0]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            requests.ConnectionError(
                urllib3_errors.MaxRetryError(
                    HTTPSConnectionPool("one.example.test"),
                    "/",
                    urllib3_errors.NameResolutionError("one.example.test", HTTPSConnection("one.example.test"), gaierror()),
                )
            ),
            "DNS",
        ),
        (requests.ConnectTimeout(), "time is out"),
        (requests.ReadTimeout(), "time is out"),
        (requests.exceptions.ChunkedEncodingError(urllib3_errors.ProtocolError("")), "broke off"),
        (requests.exceptions.ContentDecodingError(urllib3_errors.DecodeError("")), "unpacked"),
        (requests.exceptions.ProxyError(), "proxy"),
        (OSError(5, "Input/output error"), "connection failed"),
    ],
    ids=["name", "connecting", "reading", "chunks", "packing", "proxy", "system"],
)
def test_what_went_wrong_below_http_is_told_in_plain_words(error: Exception, said: str, world: World) -> None:
    world.pages(error, (200, EMPTY))
    dds = world.dds(attempts=2)
    assert dds.fetch(CLIENTS, FIRST).entries == []
    world.pages(error)
    with pytest.raises(UnreachableError, match=f"2 attempts.*{said}.*https://one.example.test.*no answer, RequestId") as refused:
        dds.fetch(CLIENTS, FIRST)
    assert isinstance(refused.value.__cause__, Exception)
    assert "StartDate" not in str(refused.value)


@pytest.mark.parametrize("error", [requests.exceptions.InvalidURL("https://"), requests.exceptions.InvalidHeader("token-1")])
def test_a_call_that_cannot_even_be_sent_is_not_sent_again(error: Exception, world: World) -> None:
    world.pages(error)
    with pytest.raises(UnreachableError, match="cannot be called") as refused:
        world.dds().fetch(CLIENTS, FIRST)
    assert world.slept == []
    assert "token-1" not in str(refused.value)


def test_connecting_and_reading_both_end_after_the_time_configured(world: World) -> None:
    world.pages((200, EMPTY))
    world.dds().fetch(CLIENTS, FIRST)
    assert {vars(call.request)["req_kwargs"]["timeout"] for call in world.answers.calls} == {(5.0, 5.0)}


# Limits


RETRY_AFTER = {
    "seconds": ("7", 7.0),
    "blanks": (" 7 ", 7.0),
    "fraction": ("2.5", 2.5),
    "less than our own pause": ("0", 1.0),
    "negative": ("-5", 1.0),
    "words": ("soon", 1.0),
    "date": (formatdate(NOW + 100 + 9, usegmt=True), 9.0),
    "date gone by": (formatdate(NOW + 100 - 9, usegmt=True), 1.0),
    "impossible date": ("Mon, 99 May 2026 12:00:00 GMT", 1.0),
}


@pytest.mark.parametrize(("told", "pause"), RETRY_AFTER.values(), ids=RETRY_AFTER.keys())
def test_retry_after_is_waited_for_by_the_services_own_clock(told: str, pause: float, world: World) -> None:
    date = formatdate(NOW + 100, usegmt=True)  # ours is behind
    world.pages((503, REFUSED, {"Retry-After": told, "Date": date}), (200, EMPTY))
    world.dds().fetch(CLIENTS, FIRST)
    assert world.slept == [pause]


def test_a_retry_after_without_a_date_beside_it_is_read_by_the_clock_learnt_before(world: World) -> None:
    world.pages(
        (200, EMPTY, {"Date": formatdate(NOW + 100, usegmt=True)}),
        (429, REFUSED, {"Retry-After": formatdate(NOW + 120, usegmt=True)}),
        (200, EMPTY),
    )
    dds = world.dds()
    dds.fetch(CLIENTS, FIRST)
    dds.fetch(CLIENTS, FIRST)
    assert world.slept == [20.0]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_longer_pause_than_allowed_ends_the_call_at_once_and_is_remembered(status: int, world: World) -> None:
    world.pages((status, REFUSED, {"Retry-After": "61"}))
    with pytest.raises(LimitedError, match=r"pause of 61 s") as limited:
        world.dds(max_wait=60.0).fetch(CLIENTS, FIRST)
    assert limited.value.until == NOW + 61
    assert world.limits == [(CLIENTS, NOW + 61)]
    assert len(world.calls()) == 1
    for part in (f"status {status}", REFERENCE, world.request_id()):
        assert part in str(limited.value)


def test_a_retry_after_of_ages_is_cut_so_that_a_slip_does_not_stop_the_mirror_for_ever(world: World) -> None:
    world.pages((429, REFUSED, {"Retry-After": "99999999999999"}))
    with pytest.raises(LimitedError):
        world.dds().fetch(CLIENTS, FIRST)
    assert world.limits == [(CLIENTS, NOW + LONGEST_STOP)]


@pytest.mark.parametrize("status", [429, 503])
def test_a_limit_that_holds_to_the_last_attempt_is_remembered_without_a_time(status: int, world: World) -> None:
    world.pages((status, GATEWAY))
    with pytest.raises(LimitedError) as limited:
        world.dds().fetch(CLIENTS, FIRST)
    assert limited.value.until is None
    assert world.limits == [(CLIENTS, None)]
    assert len(world.calls()) == 3


def test_a_limit_that_passes_is_not_remembered(world: World) -> None:
    world.pages((429, REFUSED), (500, REFUSED))
    with pytest.raises(UnreachableError):
        world.dds().fetch(CLIENTS, FIRST)
    assert world.limits == []


def test_a_limit_of_the_marketplace_holds_for_all_streams(world: World) -> None:
    world.tokens((429, REFUSED, {"Retry-After": "600"}))
    with pytest.raises(LimitedError, match="access token"):
        world.dds().fetch(CLIENTS, FIRST)
    assert world.limits == [(None, NOW + 600)]


def test_a_budget_that_is_spent_between_two_attempts_ends_the_call(world: World) -> None:
    world.pages((500, REFUSED))
    world.budget = 1
    with pytest.raises(BudgetError):
        world.dds().fetch(CLIENTS, FIRST)
    assert len(world.calls()) == 1


def test_calls_to_the_marketplace_are_not_counted(world: World) -> None:
    assert world.dds().locations() == [(11, 9)]
    assert world.admitted == []


# Refusals


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, "tenant_id"),
        (403, "right to Client"),
        (404, "activated"),
        (405, "tenant_id"),
        (410, "tenant_id"),
        (422, "tenant_id"),
    ],
)
def test_a_refused_stream_is_not_asked_for_again_and_says_what_to_do(status: int, advice: str, world: World) -> None:
    world.pages((status, REFUSED))
    with pytest.raises(StreamRefusedError) as refused:
        world.dds().fetch(CLIENTS, LATER)
    assert refused.value.status == status
    assert len(world.calls()) == 1
    for part in (f"status {status}", REFERENCE, world.request_id(), advice, "page 3 of Client of tenant 11, location 9"):
        assert part in str(refused.value)
    assert "own JSON" not in str(refused.value)


def test_a_refusal_by_something_in_between_says_so(world: World) -> None:
    world.pages((403, GATEWAY))
    with pytest.raises(StreamRefusedError, match="not the service's own JSON"):
        world.dds().fetch(CLIENTS, FIRST)


@pytest.mark.parametrize("location", ["https://[::1", "/login", "", "\xe4"])
def test_a_redirect_to_what_is_no_address_is_a_redirect_all_the_same(location: str, world: World) -> None:
    world.pages((302, GATEWAY, {"Location": location}))
    with pytest.raises(ProtocolError, match=r"the answer is a redirect, which is not followed \(status 302"):
        world.dds().fetch(CLIENTS, FIRST)
    assert len(world.calls()) == 1


def test_a_proxy_that_wants_a_password_is_named(world: World) -> None:
    world.pages((407, GATEWAY))
    with pytest.raises(UnreachableError, match=r"proxy asks for credentials.*HTTPS_PROXY"):
        world.dds().fetch(CLIENTS, FIRST)
    assert len(world.calls()) == 1


def test_an_error_in_a_200_is_final_and_carries_both_ids(world: World) -> None:
    world.pages((200, json.dumps({"ReferenceId": REFERENCE, "Error": {"ErrorCode": "Broken", "Message": "Marigold"}})))
    with pytest.raises(ProtocolError) as refused:
        world.dds().fetch(CLIENTS, FIRST)
    assert len(world.calls()) == 1
    for part in ("status 200", REFERENCE, world.request_id()):
        assert part in str(refused.value)
    assert "Marigold" not in str(refused.value)


def test_a_referenceid_that_would_break_the_log_line_is_left_out(world: World) -> None:
    world.pages((403, json.dumps({"referenceId": "one\ntwo"})))
    with pytest.raises(StreamRefusedError) as refused:
        world.dds().fetch(CLIENTS, FIRST)
    assert "\n" not in str(refused.value)
    assert "two" not in str(refused.value)


# 404


def test_the_services_own_404_past_the_end_is_an_empty_page(world: World) -> None:
    world.pages((404, REFUSED, {"Date": formatdate(NOW + 5, usegmt=True)}))
    dds = world.dds()
    ticks = EPOCH + int(NOW + 5) * SECOND
    assert dds.fetch(CLIENTS, PAST_END) == Page((), (), None, ticks, REFERENCE)
    assert dds.clock() == ticks
    assert len(world.calls()) == 1


@pytest.mark.parametrize("body", [GATEWAY, "", "Not found", "[]"])
def test_a_404_that_the_service_did_not_write_is_never_the_end(body: str, world: World) -> None:
    world.pages((404, body))
    with pytest.raises(StreamRefusedError) as refused:
        world.dds().fetch(CLIENTS, PAST_END)
    assert refused.value.status == 404


def test_a_404_where_no_end_was_expected_is_a_failure_even_in_the_services_own_words(world: World) -> None:
    world.pages((404, REFUSED))
    with pytest.raises(StreamRefusedError):
        world.dds().fetch(CLIENTS, LATER)
    assert len(world.calls(f"{MARKET}/apps/tenant")) == 1


@pytest.mark.parametrize("body", [GATEWAY, REFUSED])
def test_a_404_on_a_first_page_asks_for_the_tenants_address_anew(body: str, world: World) -> None:
    world.pages((404, body))
    world.answers.add("GET", OTHER_CLUSTER + CHANGES, body=EMPTY)
    world.kept = {TODAY: json.dumps(listed(CLUSTER))}
    world.lists(listed(OTHER_CLUSTER))
    dds = world.dds()
    dds.fetch(CLIENTS, FIRST)
    dds.fetch(CLIENTS, FIRST)
    assert len(world.calls()) == 1
    assert len(world.calls(OTHER_CLUSTER + CHANGES)) == 2
    assert json.loads(world.kept[TODAY]) == listed(OTHER_CLUSTER)


def test_the_address_is_asked_for_anew_once_a_run_and_tenant(world: World) -> None:
    world.pages((404, REFUSED))
    world.answers.add("GET", OTHER_CLUSTER + CHANGES, status=404, body=REFUSED)
    world.lists(listed(CLUSTER, OTHER_CLUSTER))
    dds = world.dds()
    for _ in range(3):
        with pytest.raises(StreamRefusedError):
            dds.fetch(CLIENTS, FIRST)
    assert len(world.calls(f"{MARKET}/apps/tenant")) == 2
    assert len(world.calls()) == 4  # the first stream twice, the others once
    with pytest.raises(StreamRefusedError):
        dds.fetch(CLIENTS._replace(tenant_id=12), FIRST)
    assert len(world.calls(f"{MARKET}/apps/tenant")) == 3


def test_a_404_with_the_address_from_the_configuration_is_final_and_apps_tenant_is_never_asked(world: World) -> None:
    world.account = replace(world.account, public_api_url=f"{CLUSTER}/publicapi/")
    world.pages((404, REFUSED))
    with pytest.raises(StreamRefusedError):
        world.dds().fetch(CLIENTS, FIRST)
    assert len(world.calls()) == 1
    assert world.calls(f"{MARKET}/apps/tenant") == []


def test_a_single_record_that_is_not_there_is_believed_only_of_a_fresh_address(world: World) -> None:
    world.kept = {TODAY: json.dumps(listed(CLUSTER))}
    world.lists(listed(OTHER_CLUSTER))
    latest = "/publicapi/v1/cdc/entity/Client/latest/r1"
    world.answers.add("GET", CLUSTER + latest, status=404, body=REFUSED)
    world.answers.add("GET", OTHER_CLUSTER + latest, status=404, body=REFUSED)
    with pytest.raises(StreamRefusedError) as refused:
        world.dds().fetch_latest(CLIENTS, "r1")
    assert refused.value.status == 404
    assert len(world.calls(OTHER_CLUSTER + latest)) == 1


def test_a_refused_location_that_apps_tenant_does_not_list_is_named(world: World) -> None:
    world.pages((404, REFUSED))
    with pytest.raises(StreamRefusedError, match="does not list location 77"):
        world.dds().fetch(CLIENTS._replace(location_id=77), FIRST)


# Tokens


def bearer(call: requests.PreparedRequest) -> str:
    return str(call.headers["Authorization"]).removeprefix("Bearer ")


def test_a_401_renews_the_token_and_the_page_is_asked_for_again_at_once(world: World) -> None:
    world.pages((401, REFUSED), (200, EMPTY))
    world.dds().fetch(CLIENTS, FIRST)
    first, second = world.calls()
    assert bearer(first) != bearer(second)
    assert len(world.admitted) == 2
    assert world.slept == []


def test_a_second_401_in_one_call_is_a_refusal_of_the_credentials(world: World) -> None:
    world.pages((401, REFUSED))
    with pytest.raises(CredentialsError) as refused:
        world.dds().fetch(CLIENTS, FIRST)
    assert len(world.calls()) == 2
    for part in ("status 401", REFERENCE, world.request_id()):
        assert part in str(refused.value)
    assert "token-" not in str(refused.value)


def test_the_token_is_renewed_once_a_call_and_not_once_an_attempt(world: World) -> None:
    world.pages((401, REFUSED), (500, REFUSED), (401, REFUSED))
    with pytest.raises(CredentialsError):
        world.dds(attempts=6).fetch(CLIENTS, FIRST)
    assert len(world.calls()) == 3


def test_a_token_that_ran_out_is_worth_its_attempt_even_where_one_alone_is_allowed(world: World) -> None:
    world.pages((401, REFUSED), (200, EMPTY))
    assert world.dds(attempts=1).fetch(CLIENTS, FIRST).entries == []


def test_a_renewed_token_does_not_add_to_the_attempts(world: World) -> None:
    world.pages((401, REFUSED), (500, REFUSED))
    with pytest.raises(UnreachableError):
        world.dds(attempts=3).fetch(CLIENTS, FIRST)
    assert len(world.calls()) == 3


EXPIRES = {
    "a number": ('{"access_token": "t", "expires_in": 3600}', 3300),
    "text": ('{"access_token": "t", "expires_in": "3600"}', 3300),
    "missing": ('{"access_token": "t"}', 3300),
    "null": ('{"access_token": "t", "expires_in": null}', 3300),
    "nothing sensible": ('{"access_token": "t", "expires_in": "an hour"}', 3300),
    "none left": ('{"access_token": "t", "expires_in": 0}', 3300),
    "longer": ('{"access_token": "t", "expires_in": 7200}', 6900),
    "shorter than the margin": ('{"access_token": "t", "expires_in": 60}', 30),
}


@pytest.mark.parametrize(("body", "life"), EXPIRES.values(), ids=EXPIRES.keys())
def test_a_token_is_used_until_shortly_before_its_end(body: str, life: int, world: World) -> None:
    world.account = replace(world.account, public_api_url=CLUSTER)
    world.tokens((200, body))
    world.pages((200, EMPTY))
    dds = world.dds()
    for seconds, tokens in ((0, 1), (life - 1, 1), (life, 2)):
        world.seconds = NOW + seconds
        dds.fetch(CLIENTS, FIRST)
        assert len(world.calls(f"{MARKET}/oauth2/token")) == tokens


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refused_token_call_says_that_the_credentials_are_wrong(status: int, world: World) -> None:
    world.tokens((status, json.dumps({"error": f"secret {SECRET}", "referenceId": REFERENCE})))
    with pytest.raises(CredentialsError, match=r"dds\.client_id or dds\.client_secret is wrong") as refused:
        world.dds().fetch(CLIENTS, FIRST)
    assert f"status {status}, referenceId {REFERENCE}" in str(refused.value)
    assert SECRET not in str(refused.value)
    assert len(world.calls(f"{MARKET}/oauth2/token")) == 1
    assert world.admitted == []


def test_an_empty_401_of_the_token_call_is_a_refusal_too(world: World) -> None:
    world.tokens((401, ""))
    with pytest.raises(CredentialsError):
        world.dds().locations()


@pytest.mark.parametrize("status", [400, 401, 403, 500, 503])
def test_a_token_call_that_a_gateway_refuses_says_nothing_of_the_credentials(status: int, world: World) -> None:
    good = json.dumps({"access_token": "t"})
    world.tokens((status, GATEWAY), (200, GATEWAY), (200, good))
    assert world.dds().locations() == [(11, 9)]
    assert world.slept == [1.0, 2.0]
    world.tokens((status, GATEWAY))
    with pytest.raises((UnreachableError, LimitedError)):
        world.dds().fetch(CLIENTS, FIRST)


@pytest.mark.parametrize(
    "body", ["{}", "[]", '{"access_token": null}', '{"access_token": ""}', '{"access_token": "a\\r\\nb: c"}']
)
def test_an_answer_without_a_token_that_can_be_sent_is_refused(body: str, world: World) -> None:
    world.tokens((200, body))
    with pytest.raises(ProtocolError, match=r"holds none that can be sent.*status 200"):
        world.dds().fetch(CLIENTS, FIRST)


@pytest.mark.parametrize("status", [404, 405, 410])
def test_a_marketplace_without_a_token_call_is_blamed_on_its_address(status: int, world: World) -> None:
    world.tokens((status, GATEWAY))
    with pytest.raises(ProtocolError, match=r"dds\.marketplace_url"):
        world.dds().locations()


def test_account_and_client_show_no_secret() -> None:
    account = Account(MARKET, "", "a-partner", SECRET)
    assert SECRET not in repr(account) + str(account)


# apps/tenant


SHAPES: dict[str, object] = {
    "as the simulator": [
        {"tenantId": 11, "name": "x", "publicApiUrl": CLUSTER, "locations": [{"locationId": 9}, {"locationId": 10}]}
    ],
    "pascal case": [{"TenantID": 11, "PublicApiUrl": CLUSTER, "Locations": [{"LocationID": 9}, {"LocationID": 10}]}],
    "plain ids": [{"id": 11, "publicapiurl": CLUSTER, "locations": [{"id": 9}, {"id": 10}]}],
    "digits": [{"tenantId": "11", "publicApiUrl": CLUSTER, "locations": [{"locationId": "9"}, "10"]}],
    "bare locations": [{"tenantId": 11, "publicApiUrl": CLUSTER, "locations": [9, 10]}],
    "location ids": [{"tenantId": 11, "publicApiUrl": CLUSTER, "locationIds": [9, 10]}],
    "an object with a list": {"referenceId": "r", "tenants": [{"tenantId": 11, "publicApiUrl": CLUSTER, "locations": [9, 10]}]},
    "an object in an object": {"data": {"tenants": [{"tenantId": 11, "publicApiUrl": CLUSTER, "locations": [9, 10]}]}},
    "one tenant alone": {"tenantId": 11, "publicApiUrl": CLUSTER, "locations": [9, 10]},
    "an entry per location": [
        {"tenantId": 11, "locationId": 9, "publicApiUrl": CLUSTER},
        {"tenantId": 11, "locationId": 10, "publicApiUrl": None},
    ],
    "with entries that cannot be read": [
        None,
        {"name": "x"},
        {"tenantId": 11, "publicApiUrl": CLUSTER, "locations": [{}, 9, None, 10, 9]},
    ],
    "an id that is a GUID": [{"id": "0f0f0f0f-0000", "tenantId": 11, "publicApiUrl": CLUSTER, "locations": [9, 10]}],
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_apps_tenant_is_read_in_whatever_shape_it_comes(shape: object, world: World) -> None:
    world.lists(shape)
    world.pages((200, EMPTY))
    dds = world.dds()
    assert dds.locations() == [(11, 9), (11, 10)]
    dds.fetch(CLIENTS, FIRST)
    assert len(world.calls()) == 1


@pytest.mark.parametrize("shape", [[], {"tenants": []}])
def test_an_empty_list_is_no_location(shape: object, world: World) -> None:
    world.lists(shape)
    assert world.dds().locations() == []


@pytest.mark.parametrize("shape", [{}, {"message": "x", "referenceId": "r"}, [1], [{"name": "x"}], [{"tenantId": True}]])
def test_apps_tenant_without_one_readable_tenant_is_refused_and_not_remembered(shape: object, world: World) -> None:
    world.lists(shape)
    with pytest.raises(ProtocolError, match=r"apps/tenant.*status 200"):
        world.dds().locations()
    assert world.kept == {}


def test_apps_tenant_in_html_is_asked_for_again(world: World) -> None:
    world.lists(GATEWAY, listed(CLUSTER))
    assert world.dds().locations() == [(11, 9)]


@pytest.mark.parametrize("status", [401, 403])
def test_apps_tenant_that_refuses_the_client_is_a_matter_of_credentials(status: int, world: World) -> None:
    world.answer(f"{MARKET}/apps/tenant", (status, REFUSED))
    with pytest.raises(CredentialsError, match=f"status {status}, referenceId {REFERENCE}"):
        world.dds().locations()
    assert world.issued == (2 if status == 401 else 1)


def test_apps_tenant_that_is_not_there_is_blamed_on_the_address(world: World) -> None:
    world.answer(f"{MARKET}/apps/tenant", (404, GATEWAY))
    with pytest.raises(ProtocolError, match=r"dds\.marketplace_url"):
        world.dds().locations()


def test_apps_tenant_is_asked_once_a_utc_day_over_all_runs(world: World) -> None:
    world.pages((200, EMPTY))
    for seconds, asked in ((0, 1), (60, 1), (12 * 3600 - 1, 1), (12 * 3600, 2), (13 * 3600, 2)):
        world.seconds = NOW + seconds
        dds = world.dds()
        dds.fetch(CLIENTS, FIRST)
        assert dds.locations() == [(11, 9)]
        assert len(world.calls(f"{MARKET}/apps/tenant")) == asked


def test_a_run_that_passes_midnight_asks_for_the_addresses_anew(world: World) -> None:
    world.pages((200, EMPTY))
    dds = world.dds()
    dds.fetch(CLIENTS, FIRST)
    world.seconds += 86400
    dds.fetch(CLIENTS, FIRST)
    assert len(world.calls(f"{MARKET}/apps/tenant")) == 2


@pytest.mark.parametrize("kept", ["", "no JSON", "{}"])
def test_a_memory_that_cannot_be_read_is_no_memory(kept: str, world: World) -> None:
    world.kept = {TODAY: kept}
    assert world.dds().locations() == [(11, 9)]
    assert json.loads(world.kept[TODAY]) == listed(CLUSTER)


def test_a_tenant_that_is_not_listed_is_refused_without_a_call_to_the_public_api(world: World) -> None:
    dds = world.dds()
    for _ in range(2):
        with pytest.raises(StreamRefusedError, match="does not list tenant 99") as refused:
            dds.fetch(CLIENTS._replace(tenant_id=99), FIRST)
    assert refused.value.status == 404
    assert world.admitted == []
    assert len(world.calls(f"{MARKET}/apps/tenant")) == 1


def test_a_tenant_that_todays_memory_lacks_is_asked_for_once_more(world: World) -> None:
    world.kept = {TODAY: json.dumps(listed(CLUSTER))}
    world.lists(listed(CLUSTER, OTHER_CLUSTER))
    world.answers.add("GET", OTHER_CLUSTER + CHANGES, body=EMPTY)
    world.dds().fetch(CLIENTS._replace(tenant_id=12), FIRST)
    assert len(world.calls(OTHER_CLUSTER + CHANGES)) == 1


@pytest.mark.parametrize("url", [CLUSTER, f"{CLUSTER}/", f"{CLUSTER}/publicapi", f"{CLUSTER}/PublicApi/", f" {CLUSTER} "])
def test_the_address_may_end_in_publicapi_or_not(url: str, world: World) -> None:
    world.lists(listed(url))
    world.pages((200, EMPTY))
    world.dds().fetch(CLIENTS, FIRST)
    assert len(world.calls()) == 1


BAD_ADDRESSES = {
    "http://one.example.test": "is not https",
    "ftp://one.example.test": "is not https",
    "one.example.test": "is no address",
    "https://": "is no address",
    "https://[::1": "is no address",
    "https://one.example.test:port": "is no address",
    "https://one.example.test/a b": "is no address",
    "https://somebody:hidden@one.example.test": "more than a host",
    "https://one.example.test?key=hidden": "more than a host",
}


@pytest.mark.parametrize(("url", "said"), BAD_ADDRESSES.items())
def test_no_token_goes_to_an_address_that_is_not_plain_https(url: str, said: str, world: World) -> None:
    world.lists(listed(url))
    with pytest.raises(ProtocolError, match=said) as refused:
        world.dds().fetch(CLIENTS, FIRST)
    assert "hidden" not in str(refused.value)
    assert world.admitted == []
    for key in ("public_api_url", "marketplace_url"):
        world.account = replace(Account(MARKET, "", "a-partner", SECRET), **{key: url})
        with pytest.raises(ConfigError, match=rf"dds\.{key} .*{said}") as configured:
            world.dds()
        assert "hidden" not in str(configured.value)


@pytest.mark.parametrize("url", [None, "", 7])
def test_a_tenant_without_an_address_says_which_key_gives_one(url: object, world: World) -> None:
    world.lists(listed(url))
    with pytest.raises(ProtocolError, match=r"dds\.public_api_url"):
        world.dds().fetch(CLIENTS, FIRST)


# Clocks


def test_the_clock_is_our_own_until_the_service_says_its_date(world: World) -> None:
    world.pages((200, EMPTY), (200, EMPTY, {"Date": formatdate(NOW - 30, usegmt=True)}), (200, EMPTY))
    dds = world.dds()
    assert dds.clock() == EPOCH + int(NOW) * SECOND
    assert dds.fetch(CLIENTS, FIRST).clock == EPOCH + int(NOW) * SECOND
    assert dds.fetch(CLIENTS, FIRST).clock == EPOCH + int(NOW - 30) * SECOND
    world.seconds += 10
    assert dds.clock() == EPOCH + int(NOW - 20) * SECOND
    assert dds.fetch(CLIENTS, FIRST).clock == EPOCH + int(NOW - 20) * SECOND


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 May 2026 12:00:00 GMT"])
def test_a_date_that_is_none_is_not_believed(date: str, world: World) -> None:
    world.pages((200, EMPTY, {"Date": date}))
    assert world.dds().fetch(CLIENTS, FIRST).clock == EPOCH + int(NOW) * SECOND


def test_the_clock_of_a_gateway_is_not_believed(world: World) -> None:
    wrong = {"Date": formatdate(0, usegmt=True)}
    world.pages((502, GATEWAY, wrong), (200, GATEWAY, wrong), (404, GATEWAY, wrong))
    dds = world.dds()
    with pytest.raises(StreamRefusedError):
        dds.fetch(CLIENTS, LATER)
    assert dds.clock() == EPOCH + int(world.seconds) * SECOND


def test_a_greeting_sets_the_clock_and_costs_no_call_of_the_public_api(world: World) -> None:
    world.account = replace(world.account, public_api_url=CLUSTER)
    world.tokens((200, '{"access_token": "t"}', {"Date": formatdate(NOW + 30, usegmt=True)}))
    world.pages((200, EMPTY))
    dds = world.dds()
    dds.greet(CLIENTS)
    assert dds.clock() == EPOCH + int(NOW + 30) * SECOND
    assert (world.admitted, world.calls()) == ([], [])
    dds.fetch(CLIENTS, FIRST)
    assert len(world.calls(f"{MARKET}/oauth2/token")) == 1


def test_a_tenant_that_nobody_lists_is_refused_at_the_greeting(world: World) -> None:
    with pytest.raises(StreamRefusedError, match="does not list tenant 99"):
        world.dds().greet(CLIENTS._replace(tenant_id=99))


def test_a_location_that_is_to_be_left_alone_is_not_even_greeted(world: World) -> None:
    world.stopped = True
    with pytest.raises(LimitedError):
        world.dds().greet(CLIENTS)
    assert len(world.answers.calls) == 0


# Single records and enums


def test_a_single_record_is_a_page_of_one_and_its_id_is_encoded(world: World) -> None:
    world.answers.add("GET", re.compile(r".*/latest/.*"), body=EMPTY)
    assert world.dds().fetch_latest(CLIENTS, "a/b?c").reference_id == REFERENCE
    url = world.answers.calls[-1].request.url or ""
    assert urlsplit(url).path == "/publicapi/v1/cdc/entity/Client/latest/a%2Fb%3Fc"
    assert set(parse_qs(urlsplit(url).query)) == {"TenantId", "LocationId", "RequestId"}
    assert world.admitted == [CLIENTS]


ENUMS = {
    "plain": {"ObjectState": {"2026": "Active", "2028": "Deleted"}},
    "wrapped": {"referenceId": "r", "data": {"ObjectState": {"2026": "Active", "2028": "Deleted"}}},
    "among others": {"ObjectState": {"2026": "Active", "2028": "Deleted", "2030": None}, "count": 1, "list": []},
}


@pytest.mark.parametrize("shape", ENUMS.values(), ids=ENUMS.keys())
def test_enums_are_names_with_keys_and_labels(shape: object, world: World) -> None:
    world.answers.add("GET", f"{CLUSTER}/publicapi/v1/system/enums", body=json.dumps(shape))
    assert world.dds().fetch_enums(CLIENTS) == {"ObjectState": {"2026": "Active", "2028": "Deleted"}}
    assert world.admitted == [CLIENTS]


@pytest.mark.parametrize("shape", [{}, [], {"referenceId": "r"}])
def test_an_answer_without_enums_is_refused(shape: object, world: World) -> None:
    world.answers.add("GET", f"{CLUSTER}/publicapi/v1/system/enums", body=json.dumps(shape))
    with pytest.raises(ProtocolError, match=r"the enums.*RequestId"):
        world.dds().fetch_enums(CLIENTS)


# Messages


def test_no_failure_shows_a_secret_a_token_or_what_a_body_says(world: World) -> None:
    told = json.dumps({"message": "Marigold", "referenceId": REFERENCE, "token": "token-1"})
    failures: Sequence[Callable[[], None]] = [
        *(lambda status=status: world.pages((status, told)) for status in (400, 401, 403, 404, 407, 410, 429, 500, 503)),
        lambda: world.pages((302, told, {"Location": "https://x.example.test/?token=token-1"})),
        lambda: world.pages((200, told)),
        lambda: world.pages(requests.ConnectionError("Marigold token-1")),
        lambda: world.tokens((401, told)),
        lambda: world.tokens((200, told)),
    ]
    for fail in failures:
        fail()
        with pytest.raises(DeltaMirrorError) as refused:
            world.dds().fetch(CLIENTS, FIRST)
        for hidden in ("Marigold", "token-", SECRET, "a-partner"):
            assert hidden not in str(refused.value)
