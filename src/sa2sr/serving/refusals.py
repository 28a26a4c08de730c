"""Answers to what cannot be done: a status, a code for programs and a sentence for people."""

from typing import Any

from starlette.responses import JSONResponse


class RefusalError(Exception):
    """A request that is not carried out.

    Args:
        status: of HTTP
        code: one word for programs, such as ``too_large``
        message: what is wrong, and what would be right
        headers: that go with the answer
    """

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers or {}

    def response(self) -> JSONResponse:
        """The answer. It ends the connection, since a body that is not wanted may still be coming."""
        return JSONResponse(self.body(), self.status, {"Connection": "close", **self.headers})

    def body(self) -> dict[str, Any]:
        """What the client reads."""
        return {"error": {"code": self.code, "message": self.message}}


def busy(what: str, seconds: int = 1) -> RefusalError:
    """The refusal of a server that has enough to do: come again."""
    return RefusalError(503, "busy", f"{what}; try again in {seconds} s", {"Retry-After": str(seconds)})
