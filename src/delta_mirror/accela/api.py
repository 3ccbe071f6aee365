"""The HTTP of Accela: tokens, reading a contact, writing one.

Invariants:

- A GET and a call for a token are asked again; a PUT only where it certainly was not carried out: it did not leave this machine,
  its token was refused, or the service had too many calls. Any other PUT without an answer is `Lost`: a GET has to look.
- A token is renewed before it ends, and once per call where it is refused: by the refresh token, else by user and password. The
  newest refresh token is the one that counts. Tokens live in memory alone.
- User and password that are refused end the run: no account is to be locked by us.
- Neither a secret nor a value of a contact leaves in a message.
"""

import random
import time
from collections.abc import Callable, Collection
from typing import NamedTuple
from urllib.parse import quote, urlencode

from delta_mirror.accela.answers import (
    Answer,
    Grant,
    asked_pause,
    escaped,
    read_contact,
    read_grant,
    read_refusal,
    read_told,
)
from delta_mirror.accela.contact import Contact
from delta_mirror.accela.exact import write_json
from delta_mirror.accela.push_plan import Lost, Refusal, Told
from delta_mirror.accela.transport import Call, NoAnswerError, Transport
from delta_mirror.calls.attempts import Manners, UnansweredError
from delta_mirror.errors import CredentialsError, ProtocolError, UnreachableError

SCOPE = "contacts"
API_URL = "accela.api_url"  # the key of the configuration, for messages


class Agency(NamedTuple):
    """Whose contacts they are, and as whom they are written."""

    auth_url: str
    api_url: str
    app_id: str
    app_secret: str
    agency: str
    environment: str
    username: str
    password: str
    lang: str

    def __repr__(self) -> str:
        """Return nothing that is secret."""
        return f"Agency({self.agency!r})"


class Accela:
    """The service, for one run."""

    def __init__(
        self,
        agency: Agency,
        manners: Manners,
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._agency = agency
        self._now = now
        self._transport = Transport(manners, now=now, sleep=sleep, jitter=jitter)
        self._grant: Grant | None = None

    @property
    def calls(self) -> int:
        """How many requests were sent, those for tokens too."""
        return self._transport.calls

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()

    def log_in(self) -> None:
        """Return if the service gives a token for the credentials, which are offered once.

        Raises:
            CredentialsError, LimitedError, UnreachableError: it does not.
        """
        self._token()

    def get(self, contact_id: str) -> Contact | Refusal:
        """Return the contact, or the refusal that the service answers to the last attempt.

        Raises:
            CredentialsError, LimitedError, UnreachableError: nothing can be asked now, of any contact.
            ProtocolError: the answer is no contact, or another one, or did not come whole to the last attempt.
        """
        call = Call("reading a contact", API_URL)

        # What fails to the last attempt fails at this contact: with others it may not. Only where nothing can be reached at
        # all, or a pause is asked for, it concerns them, too.
        def attempt() -> Contact | Refusal:
            try:
                answer = self._call(call, "GET", contact_id)
            except NoAnswerError as error:
                if error.was_sent and self._transport.is_last(call):
                    raise ProtocolError(f"no whole answer ({error.trouble})") from error
                raise
            found = read_contact(answer, contact_id)
            pause = asked_pause(answer)
            if isinstance(found, Refusal) and found.is_passing and not self._transport.is_last(call, pause):
                raise _failure(found, pause)
            return found

        return self._transport.persist(call, attempt)

    def put(self, contact_id: str, contact: Contact, fields: Collection[str]) -> Told:
        """Write the contact, and return what the service told; *fields* are those that a refusal may name.

        Raises:
            CredentialsError, LimitedError, UnreachableError: nothing was written, and nothing can be asked now.
        """
        body = write_json(contact)
        call = Call("writing a contact", API_URL)

        def attempt() -> Told:
            try:
                return read_told(self._call(call, "PUT", contact_id, body), fields)
            except NoAnswerError as error:
                if not error.was_sent:
                    raise
                return Lost(error.trouble)
            except ProtocolError as error:
                return Lost(str(error))

        return self._transport.persist(call, attempt)

    def _call(self, call: Call, method: str, contact_id: str, body: str | None = None) -> Answer:
        """Return the answer to a call with a good token, whatever else its status says.

        Raises:
            UnansweredError: the service has too many calls.
            CredentialsError: a new token is refused, too.
        """
        token = self._token()
        call.sent += 1
        answer = self._send(call, method, contact_id, token, body)
        if answer.status == 401:
            answer = self._send(call, method, contact_id, self._renewed(), body)
        if answer.status == 401:
            trace = answer.trace_id or "none"
            raise CredentialsError(
                f"Accela refuses a token that it has just given: {read_refusal(answer)}, traceId {trace}. Check accela.app_id, "
                f"accela.agency and accela.environment, and that the app has the scope {SCOPE}"
            )
        if answer.status == 429:
            raise UnansweredError(
                "too many calls", "Try again later.", _trace(429, answer.trace_id), status=429, wait=asked_pause(answer)
            )
        return answer

    def _send(self, call: Call, method: str, contact_id: str, token: str, body: str | None) -> Answer:
        agency = self._agency
        query = f"?{urlencode({'lang': agency.lang})}" if agency.lang else ""
        headers = {
            "Authorization": token,  # the bare token, without the word Bearer
            "x-accela-appid": agency.app_id,
            "x-accela-agency": agency.agency,
            "x-accela-environment": agency.environment,
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        path = f"/v4/contacts/{quote(escaped(contact_id), safe='')}"
        return self._transport.send(call, method, f"{agency.api_url}{path}{query}", "/v4/contacts/...", headers, body=body)

    # ---- tokens

    def _token(self) -> str:
        if self._grant is None or self._grant.renew_at <= self._now():
            return self._renewed()
        return self._grant.access

    def _renewed(self) -> str:
        """Return a new token: by the refresh token where there is one that the service takes, else by user and password."""
        held, self._grant = self._grant, None
        granted: Grant | Refusal | None = None
        if held is not None and held.refresh:
            granted = self._ask_for_token({"grant_type": "refresh_token", "refresh_token": held.refresh})
        if not isinstance(granted, Grant):
            agency = self._agency
            granted = self._ask_for_token(
                {
                    "grant_type": "password",
                    "username": agency.username,
                    "password": agency.password,
                    "scope": SCOPE,
                    "agency_name": agency.agency,
                    "environment": agency.environment,
                }
            )
        if isinstance(granted, Refusal):
            raise CredentialsError(
                f"Accela refuses the credentials: {granted}. Check app_id, app_secret, username, password, agency and "
                "environment under [accela]; they were offered once, so that no account is locked"
            )
        # An answer without a new refresh token leaves the old one good.
        self._grant = granted if granted.refresh or held is None else granted._replace(refresh=held.refresh)
        return self._grant.access

    def _ask_for_token(self, asked: dict[str, str]) -> Grant | Refusal:
        agency = self._agency
        form = {"client_id": agency.app_id, "client_secret": agency.app_secret, **asked}

        call = Call("asking for a token", "accela.auth_url")

        def attempt() -> Grant | Refusal:
            call.sent += 1
            started = self._now()
            answer = self._transport.send(
                call, "POST", f"{agency.auth_url}/oauth2/token", "/oauth2/token", {"x-accela-appid": agency.app_id}, form=form
            )
            refusal = read_refusal(answer)
            if refusal is None:
                return read_grant(answer, started)
            if refusal.is_passing or refusal.status == 429:
                raise _failure(refusal, asked_pause(answer))
            return refusal

        try:
            return self._transport.persist(call, attempt)
        except ProtocolError as error:  # without a token nothing can be asked, of any contact
            raise UnreachableError(f"{call.wanted}: {error}") from error


def _failure(refusal: Refusal, pause: float | None) -> UnansweredError:
    """Return *refusal* as one that may pass."""
    trouble = "too many calls" if refusal.status == 429 else f"the service failed: {refusal.code}"
    trace = _trace(refusal.status, refusal.trace_id)
    return UnansweredError(trouble, "Try again later.", trace, status=refusal.status, wait=pause)


def _trace(status: int, trace_id: str | None) -> str:
    return f"status {status}" if trace_id is None else f"status {status}, traceId {trace_id}"
