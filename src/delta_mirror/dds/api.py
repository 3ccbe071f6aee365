"""The DDS over HTTP: which call is made for a page, a record or the enums, and what each refusal of it means.

How a call is made lies in `transport`, tokens and addresses in `marketplace`, what an answer says in `wire` and `answers`.

Invariants:

- Every attempt to the public API is admitted, and so counted, before it is sent, and bears a RequestId of its own.
- Within a call a refused token is renewed once; a 404 that may come of a tenant's move asks for its address once per run.
- A page is empty because the service says so: by an empty page, or by a 404 in its own JSON where the asker has said that
  the end may be passed. Every other 404 is a failure.
- Tokens go to the configured marketplace and to the address that it, or the configuration, names, and nowhere else.
- What a mask takes away is gone from a page before anybody else has it.
"""

import random
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar
from urllib.parse import quote, urlencode
from uuid import uuid4

from delta_mirror.calls.attempts import Manners
from delta_mirror.core.mask import Mask
from delta_mirror.core.masked_body import mask_page
from delta_mirror.core.model import Page, PageRequest, Stream
from delta_mirror.dds.addresses import configured_address
from delta_mirror.dds.answers import Token, read_enums
from delta_mirror.dds.marketplace import Account, Listing, Marketplace, TenantMemory, named
from delta_mirror.dds.transport import LARGEST_BODY, Answer, Call, Clock, Transport
from delta_mirror.dds.wire import is_own_json, open_page, reference_of
from delta_mirror.errors import CredentialsError, StreamRefusedError

__all__ = ["Account", "Admission", "Dds", "Manners", "TenantMemory"]  # all that a run needs to make a Dds

Answered = TypeVar("Answered")


class Admission(Protocol):
    """What is asked before a call and told after a refused one: the ledger of calls. Several threads use it at once."""

    def admit(self, stream: Stream) -> None:
        """Count one attempt durably, waiting where a minute is full.

        Raises:
            BudgetError: the location's calls of the day are spent.
            LimitedError: the service has told an earlier call to stop, and the time is not over.
        """
        ...

    def check(self, stream: Stream) -> None:
        """Raise as `admit` where nothing of the location of *stream* may be called now; count nothing."""
        ...

    def limited(self, stream: Stream | None, until: float | None) -> None:
        """Remember that the service told *stream* to stop, until *until* (our own seconds since the epoch) where it said.

        None is the marketplace, without which nothing can be asked.
        """
        ...


class Dds:
    """The service's marketplace and its public API, as one account sees them.

    Several threads may fetch at once. `now` gives our own clock in seconds since the epoch, `jitter` a number from 0 to 1.
    Entries come as *mask* leaves them.

    Raises:
        ConfigError: an address is no plain https address, or `ca_file` holds no certificates.
    """

    def __init__(
        self,
        account: Account,
        manners: Manners,
        admission: Admission,
        memory: TenantMemory,
        *,
        mask: Mask | None = None,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        new_request_id: Callable[[], str] = lambda: str(uuid4()),
        largest_body: int = LARGEST_BODY,
    ) -> None:
        self._admission = admission
        self._mask = mask
        self._new_request_id = new_request_id
        self._clock = Clock(now)
        self._transport = Transport(
            manners, self._clock, admission.limited, sleep=sleep, jitter=jitter, largest_body=largest_body
        )
        self._marketplace = Marketplace(account, memory, self._transport, self._clock)
        url = account.public_api_url
        self._configured = configured_address(url, "dds.public_api_url") if url else None

    def locations(self) -> list[tuple[int, int]]:
        """Return (tenant_id, location_id) of every location that apps/tenant lists, in its order.

        Raises:
            CredentialsError, UnreachableError, LimitedError: as everywhere.
            ProtocolError: the answer cannot be read as a list of tenants.
        """
        tenants = self._marketplace.listing(None).tenants
        return [(tenant_id, location_id) for tenant_id, tenant in tenants.items() for location_id in tenant.locations]

    def clock(self) -> int:
        """Return the service's clock now, in ticks: ours, corrected by the last Date that the service sent with an answer.

        A Date tells whole seconds and is corrected from the moment of receipt, so this clock is never ahead of the service's.
        """
        return self._clock.ticks()

    def greet(self, stream: Stream) -> None:
        """Make sure of an address and a token for *stream*, so that `clock` is the service's before anything is asked of it.

        Costs no call of the public API, and nothing at all where the location is to be left alone. Errors as of `fetch`.
        """
        self._admission.check(stream)
        self._address(stream)
        self._marketplace.token(stream)

    def fetch(self, stream: Stream, request: PageRequest, counted: Callable[[], None] = lambda: None) -> Page:
        """Return the page that *request* asks for; *counted* is called each time an attempt has been counted, before it is sent.

        Raises:
            CredentialsError: the service refuses the credentials, or a token that it has just issued.
            LimitedError: the service told us to stop; the ledger of calls has been told.
            UnreachableError: no usable answer in all attempts.
            StreamRefusedError: the service refuses this stream.
            ProtocolError: the answer is no page, carries an `Error`, is a redirect, or is too large.
            BudgetError: from the ledger of calls.
        """
        return self.fetch_unread(stream, request, counted)()

    def fetch_unread(
        self, stream: Stream, request: PageRequest, counted: Callable[[], None] = lambda: None
    ) -> Callable[[], Page]:  # fmt: skip
        """Return what gives the page that *request* asks for. Arguments and errors as of `fetch`; to read it then raises none.

        For whoever asks in one thread and uses the page in another: there is no gain in two threads of Python that compute.
        """
        return self._ask(
            stream,
            f"cdc/entity/{quote(stream.entity, safe='')}/changes",
            lambda answer: self._page(stream, answer),
            wanted=f"page {request.number} of {named(stream)}",
            query={"StartDate": request.start, "PageNumber": str(request.number), "ItemsPerPage": str(request.size)},
            may_have_moved=request.number == 0,
            may_be_past_end=request.may_be_past_end,
            counted=counted,
        )

    def fetch_latest(self, stream: Stream, id: str) -> Page:  # noqa: A002 - the service's own word
        """Return the page that holds the one record *id* as it is now. Errors as of `fetch`.

        A record that the service does not know is a StreamRefusedError of status 404.
        """
        return self._ask(
            stream,
            f"cdc/entity/{quote(stream.entity, safe='')}/latest/{quote(id, safe='')}",
            lambda answer: self._page(stream, answer),
            wanted=f"a single record of {named(stream)}",
            shown=f"cdc/entity/{stream.entity}/latest/*",
        )()

    def fetch_enums(self, stream: Stream) -> Mapping[str, Mapping[str, str]]:
        """Return the service's enums as *stream* sees them: name -> key -> label. Errors as of `fetch`."""
        return self._ask(stream, "system/enums", lambda answer: read_enums(answer.body), wanted=f"the enums for {named(stream)}")

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()

    def _page(self, stream: Stream, answer: Answer) -> Callable[[], Page]:
        """Return what gives the page that *answer* is; a 404 that has come as far as this is the end, an empty page."""
        clock = self._clock.ticks_at(answer)
        if answer.status == 404:
            end = Page(entries=(), digests=(), last_change=None, clock=clock, reference_id=reference_of(answer.body))
            return lambda: end
        sent = open_page(answer.body, stream)

        def read() -> Page:
            page = sent.read(stream, clock)
            return mask_page(self._mask, stream.entity, page) if self._mask else page

        return read

    def _ask(
        self,
        stream: Stream,
        path: str,
        read: Callable[[Answer], Answered],
        *,
        wanted: str,
        query: Mapping[str, str] | None = None,
        may_have_moved: bool = True,
        may_be_past_end: bool = False,
        shown: str | None = None,
        counted: Callable[[], None] = lambda: None,
    ) -> Answered:
        """Return what *read* makes of the answer to GET *path*.

        Args:
            stream: whose tenant, location, token and budget it is.
            path: below `/publicapi/v1/`.
            read: raises ProtocolError where it cannot.
            wanted: what is asked for, for messages.
            query: beside the ids.
            may_have_moved: a 404 may mean that the tenant has moved to another cluster.
            may_be_past_end: a 404 of the service itself is for *read*, too.
            shown: the path for the log, where *path* has something in it that is not for logs.
            counted: called when an attempt has been admitted.
        """
        call = Call(wanted, stream, stream, "dds.public_api_url" if self._configured else None)
        ids = {"TenantId": str(stream.tenant_id), "LocationId": str(stream.location_id)}

        def attempt() -> Answered:
            listing, address = self._address(stream)

            def send(token: Token) -> Answer:
                self._admission.admit(stream)
                counted()
                request_id = self._new_request_id()
                asked = urlencode({**ids, **(query or {}), "RequestId": request_id}, quote_via=quote)
                url, logged = f"{address}/publicapi/v1/{path}?{asked}", f"/publicapi/v1/{shown or path}"
                return self._transport.send(call, "GET", url, logged, token=token, request_id=request_id)

            answer = self._marketplace.send_with_token(call, send)
            if answer.is_good or (answer.status == 404 and may_be_past_end and is_own_json(answer.body)):
                return self._transport.read(answer, lambda: read(answer))
            doubted = listing if answer.status == 404 and may_have_moved else None
            if doubted is not None and self._marketplace.has_newer_listing(stream, doubted):
                return attempt()
            self._transport.refuse_for_all(call, answer)
            raise _refusal(call, answer, stream, listing)

        return self._transport.persist(call, attempt)

    def _address(self, stream: Stream) -> tuple[Listing | None, str]:
        """Return the public API's address for *stream*, with the listing that names it (None: the configuration does)."""
        return self._marketplace.public_api(stream) if self._configured is None else (None, self._configured)


def _refusal(call: Call, answer: Answer, stream: Stream, listing: Listing | None) -> CredentialsError | StreamRefusedError:
    """Return what it means for *stream* that its call is refused by *answer*, of a status that says nothing by itself."""
    if answer.status == 401:
        return CredentialsError(
            f"{call.wanted}: the service refuses a token that it has just issued ({answer.trace()}). Check that location "
            f"{stream.location_id} of tenant {stream.tenant_id} is activated for this client_id."
        )
    if answer.status == 403:
        advice = f"Ask the vendor whether this client_id has a right to {stream.entity} and whether the location is activated."
    elif answer.status == 404:
        advice = "Check tenant_id and location_id, and that the location is activated for this client_id."
        tenant = listing.tenants.get(stream.tenant_id) if listing is not None else None
        if tenant is not None and tenant.locations and stream.location_id not in tenant.locations:
            advice += f" apps/tenant does not list location {stream.location_id} under this tenant."
    else:
        advice = "Check tenant_id, location_id and the entity's name."
    if answer.body and not is_own_json(answer.body):
        advice += " The answer is not the service's own JSON: something in between may have given it."
    return StreamRefusedError(f"{call.wanted}: the service refuses it ({answer.trace()}). {advice}", answer.status)
