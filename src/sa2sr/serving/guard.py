"""What every request passes before anything else looks at it."""

import hmac
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sa2sr.serving.monitoring import Monitor
from sa2sr.serving.refusals import RefusalError
from sa2sr.serving.requests import bounded
from sa2sr.serving.settings import Access, Limits

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "media-src 'self' blob:",  # to listen to a file before it is sent
        "form-action 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Refuses what comes under a wrong name, from another page, or too large or slow; and counts what was answered."""

    def __init__(self, app: ASGIApp, *, access: Access, limits: Limits, monitor: Monitor) -> None:
        self.app, self.access, self.limits, self.monitor = app, access, limits, monitor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            check(Headers(scope=scope), self.access)
        except RefusalError as refusal:
            await refusal.response()(scope, receive, send_guarded)
        else:
            guarded = bounded(scope, receive, self.limits) if scope["type"] == "http" else receive
            await self.app(scope, guarded, send_guarded)
        if scope["type"] == "http":
            route = getattr(scope.get("route"), "path", "other")
            self.monitor.requests.labels(route, status or "gone").inc()
            self.monitor.seconds.labels(route).observe(time.perf_counter() - began)


def check(headers: Headers, access: Access) -> None:
    """Check whom a request is meant for and which page it comes from.

    A page elsewhere may send requests here from a visitor's browser, and by a name that it lets point here even read
    the answers.

    Raises:
        RefusalError: 421 for a name that is not ours, 403 for a page that is not allowed
    """
    host = headers.get("host", "")
    if access.hosts is not None and _name(host) not in access.hosts:
        raise RefusalError(
            421, "wrong_host", f"this server is not called '{host}'; sa2sr serve --allow-host allows a name"
        )
    origin = headers.get("origin")
    if origin is not None and origin not in access.origins and not _is_of(origin, host):
        raise RefusalError(
            403, "wrong_origin", f"pages of {origin} may not ask; sa2sr serve --allow-origin allows them"
        )


def authorised(headers: Headers, access: Access, shown: str | None = None) -> bool:
    """Whether a client shows the token, in the header ``Authorization: Bearer ...`` or otherwise.

    Args:
        headers: of the request
        access: the token that is asked for, if any
        shown: a token that came in another way
    """
    if access.token is None:
        return True
    if shown is None:
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        shown = shown if scheme.lower() == "bearer" else ""
    return hmac.compare_digest(shown.strip().encode(errors="surrogatepass"), access.token.encode())


def _is_of(origin: str, host: str) -> bool:
    """Whether a page comes from the host that it asks."""
    try:
        return (urlsplit(origin).netloc or origin) == host
    except ValueError:  # half a bracket, as in http://[::1
        return False


def _name(host: str) -> str:
    """The host without its port: of ``localhost:8000`` or ``[::1]:8000``."""
    end = host.rfind("]")
    return (host[: end + 1] if end >= 0 else host.partition(":")[0]).lower()
