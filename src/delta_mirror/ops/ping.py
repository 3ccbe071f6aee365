"""The health check that waits for a call after each run, and raises an alarm when none comes.

Invariants:

- The address is a secret: it is in no message, and goes to no other host. A redirect is not followed.
- It takes five seconds at most, and no failure of it leaves this module but as words.
- A run that went well is told by GET of the address itself, any other by the address with `/fail` behind its path, as
  healthchecks.io and those that are like it have it. A service that does not know `/fail` answers 404, and so hears nothing: its
  own alarm comes when the next good call is overdue.
"""

import threading
from queue import Empty, Queue

from urllib3 import exceptions as urllib3_errors

from delta_mirror.calls.session import PlainSession

LIMIT = 5.0  # seconds for all of it; a name that does not resolve heeds no timeout of a socket
TIMEOUT = 3.0  # seconds to connect, and to wait for the answer


def ping(url: str, *, went_well: bool, ca_file: str, is_local: bool, limit: float = LIMIT) -> str | None:
    """Call the health check *url*; return what kept it from being told, None if nothing did.

    *ca_file* takes the place of the usual certificate authorities unless it is empty. *is_local*: no proxy is asked.
    """
    answers: Queue[str | None] = Queue()
    address = url if went_well else _failed(url)

    def call() -> None:
        answers.put(_call(address, ca_file, is_local=is_local))

    threading.Thread(target=call, daemon=True, name="ping").start()
    try:
        return answers.get(timeout=limit)
    except Empty:
        return f"no answer in {limit:.0f} s"


def _failed(url: str) -> str:
    base, mark, query = url.partition("?")
    return f"{base.rstrip('/')}/fail{mark}{query}"


def _call(url: str, ca_file: str, *, is_local: bool) -> str | None:
    try:
        with (
            PlainSession() as session,
            session.get(
                url,
                timeout=(TIMEOUT, TIMEOUT),
                allow_redirects=False,
                stream=True,  # the answer is its status
                verify=ca_file or True,
                proxies={"http": "", "https": "", "all": ""} if is_local else None,
            ) as answer,
        ):
            status = answer.status_code
    except (OSError, ValueError, urllib3_errors.HTTPError) as error:  # every exception of requests is an OSError
        return f"it cannot be reached ({type(error).__name__})"  # not its words: they have the address
    if 300 <= status < 400:
        return f"its answer is a redirect (status {status}), which is not followed"
    return None if status < 300 else f"it answers with status {status}"
