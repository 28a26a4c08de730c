"""Running the application, from a socket to a shutdown that finishes what was accepted."""

import asyncio
import ipaddress
import socket
import time
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import uvicorn
from fastapi import FastAPI

from sa2sr.errors import UserError
from sa2sr.serving.settings import Limits

LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UserError: if the address cannot be used
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1024)  # who comes before the server is ready waits
        except BaseException:
            listener.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen on {host} port {port} ({reason}); choose another --host or --port") from None
    return listener


def is_local(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def url(listener: socket.socket) -> str:
    """Where a browser finds it."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def run(app: FastAPI, listener: socket.socket, *, grace: float, access_log: bool = False) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Then new requests are refused, those that were accepted are finished, and streams get the estimates of what they
    sent, for which there are ``grace`` seconds, and a second at least to hang up.
    """
    limits: Limits = app.state.service.limits
    config = uvicorn.Config(
        app,
        http="h11",
        ws="websockets-sansio",
        ws_max_size=limits.message,
        ws_per_message_deflate=False,  # a message must not be larger than what came
        log_level="info" if access_log else "warning",
        access_log=access_log,
        proxy_headers=False,
        server_header=False,
    )
    _Server(config, grace).run([listener])


class _Server(uvicorn.Server):
    """Uvicorn, which lets streams finish too and hangs up on who never asks anything."""

    def __init__(self, config: uvicorn.Config, grace: float) -> None:
        super().__init__(config)
        self._service = config.app.state.service  # type: ignore[union-attr]
        self._grace = grace
        self._silent: WeakKeyDictionary[Any, tuple[Any, float]] = WeakKeyDictionary()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second signal does not wait."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """What uvicorn does ten times a second."""
        if counter % 10 == 0:
            self._hang_up()
        return await super().on_tick(counter)

    def _hang_up(self) -> None:
        """Close connections on which no request has come, or ended, for too long."""
        now, silent = time.monotonic(), self._silent
        for connection in list(self.server_state.connections):
            request: Any = getattr(connection, "cycle", connection)  # None before the first
            if request is connection or not getattr(request, "response_complete", True):
                silent.pop(connection, None)  # a stream, or at work
                continue
            last, since = silent.get(connection, (None, now))
            if connection not in silent or last is not request:
                silent[connection] = request, now
            elif now - since > self._service.limits.idle:
                connection.transport.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let streams finish, before uvicorn closes their connections, and then the rest, by one deadline."""
        self._service.draining.set()
        deadline = time.monotonic() + self._grace
        try:
            async with asyncio.timeout(self._grace):
                while self._service.streams.taken and not self.force_exit:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pass
        self.config.timeout_graceful_shutdown = max(1, round(deadline - time.monotonic()))
        await super().shutdown(sockets)
