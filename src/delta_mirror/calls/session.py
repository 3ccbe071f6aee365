"""The session of requests that every edge on requests calls with.

Invariants:

- What is sent is what the edge asks for: no .netrc puts its own Authorization in place of ours.
- A redirect is neither followed nor read.
"""

import requests

from delta_mirror import __version__


class PlainSession(requests.Session):
    """A session that adds nothing to what is asked, and follows nothing of what is answered; our name is on every request."""

    def __init__(self) -> None:
        super().__init__()
        self.headers["User-Agent"] = f"delta-mirror/{__version__}"
        # Proxies come from the environment, so the environment is trusted; but .netrc comes with it, and would put its own
        # Authorization in place of ours (or beside the secret) unless some auth is set.
        self.auth = _as_it_is

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None: even told not to follow a redirect, requests reads all of it, and fails at a Location that is none."""


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
