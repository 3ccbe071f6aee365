"""Every error that an operator can meet, as one tree.

    DeltaMirrorError
    ├── RefusedError             nothing was written; mend the input and call again      exit 2
    │   ├── ConfigError            the configuration file
    │   ├── MirrorFileError        the mirror file: not ours, newer, of another account
    │   └── ExportError            a file of a Starter Export: cut off, not what it is called, not to be stored
    ├── BusyError                another run holds the mirror                            exit 4
    └── UnfinishedError          what could be done is done; the rest waits              exit 3
        ├── CredentialsError       the service does not accept client_id and secret
        ├── UnreachableError       no usable answer, although asked several times
        ├── LimitedError           the service said to stop calling, until a known time
        ├── BudgetError            our own budget of calls is spent
        ├── StreamRefusedError     the service refuses this one stream
        ├── ProtocolError          an answer that is not what the service's documents say
        ├── PagingError            the pages of a stream do not come to an end
        └── DiskFullError          the disk under the mirror is full

Invariants:

- A class exists only where the operator would *do* something different.
- Edges translate: nobody outside an edge's home of HTTP sees an exception of requests or urllib3, nobody outside `mirror/` one
  of sqlite3.
- No message holds a value of a record, a secret or a token.
- A message says what happened, to what, and what to do. The command line alone maps a class to an exit code.
"""


class DeltaMirrorError(Exception):
    """The root of the tree; never raised itself."""


class RefusedError(DeltaMirrorError):
    """Command line, configuration or input is refused; nothing was written."""


class ConfigError(RefusedError):
    """The configuration cannot be used as it stands."""


class MirrorFileError(RefusedError):
    """The mirror file cannot be used: not a mirror, of a newer version, or filled from another account."""


class ExportError(RefusedError):
    """A file of a Starter Export cannot be loaded; its entity stays as it was."""


class BusyError(DeltaMirrorError):
    """Another run holds the mirror."""


class UnfinishedError(DeltaMirrorError):
    """Not all could be done. What was committed stays, and the next run goes on from there."""


class CredentialsError(UnfinishedError):
    """The service does not accept the credentials."""


class UnreachableError(UnfinishedError):
    """The service gave no usable answer, although it was asked as often as the configuration allows."""


class LimitedError(UnfinishedError):
    """The service told us to stop calling.

    Attributes:
        until: seconds since the epoch before which nothing may be called, None where the service gave no time.
        noted_at: when an earlier call was told so, of a call that was not made for that reason; else None.
    """

    def __init__(self, message: str, until: float | None = None, noted_at: float | None = None) -> None:
        super().__init__(message)
        self.until = until
        self.noted_at = noted_at


class BudgetError(UnfinishedError):
    """Our own budget of calls (`calls_per_day`) is spent."""


class StreamRefusedError(UnfinishedError):
    """The service refuses this stream: not activated, no such location, no right to the entity.

    Attributes:
        status: the HTTP status of the refusal.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ProtocolError(UnfinishedError):
    """An answer is not what the service's documents describe, or carries an `Error`."""


class PagingError(UnfinishedError):
    """The pages of a stream repeat or never end; what came is kept, the watermark stays."""


class DiskFullError(UnfinishedError):
    """The disk is full; what was committed before is sound."""
