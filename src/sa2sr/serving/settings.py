"""What a server allows."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is refused, so that no client can take the server from the others."""

    body: int = 100 << 20  # bytes of a request
    spool: int = 2 << 30  # bytes of all uploads that are on disk at a time
    files: int = 64  # of a batch
    seconds: float = 3600.0  # of audio in a file
    shortest_hop: float = 0.1  # seconds
    overlap: float = 60.0  # windows that may hear the same moment
    work: float = 36_000.0  # seconds of all windows of a request, each counted as one at least
    decoding: float = 60.0  # seconds that the decoder may take for a file
    queue: int = 128  # files that wait or are being predicted
    uploads: int = 256  # requests whose body is still coming
    streams: int = 64
    idle: float = 30.0  # seconds without a byte, after which a request or stream ends
    upload: float = 600.0  # seconds that a body may take to come
    message: int = 1 << 20  # bytes of a message of a stream


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may ask."""

    token: str | None = None  # that a client must show; none is asked for without it
    origins: tuple[str, ...] = ()  # of other pages that may ask, such as https://example.org
    hosts: tuple[str, ...] | None = None  # names by which the server may be called; any by default
