"""The application: routes, and what they have in common."""

import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles

from sa2sr import __version__
from sa2sr.config import DIMENSIONS
from sa2sr.inference.model import Model
from sa2sr.serving.answers import ERRORS, Options, documented, heard
from sa2sr.serving.guard import Guard, authorised
from sa2sr.serving.monitoring import Monitor
from sa2sr.serving.refusals import RefusalError
from sa2sr.serving.service import Service
from sa2sr.serving.settings import Access, Limits
from sa2sr.serving.streaming import Session

PAGE = Path(__file__).parent / "page"
_STREAM_THREADS = 8
logger = logging.getLogger("uvicorn.error")


def create_app(
    model: Model, *, limits: Limits | None = None, access: Access | None = None, decoders: int | None = None
) -> FastAPI:
    """The server as an ASGI application.

    Args:
        model: that predicts emotions
        limits: of what a client may ask
        access: who may ask
        decoders: processes that decode uploads; by default one a processor

    Raises:
        ModelError: if the model does not predict emotions
    """
    limits, access = limits or Limits(), access or Access()
    monitor = Monitor()
    service = Service(model, limits, monitor, decoders=decoders)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            service.draining.set()
            await service.close()

    app = FastAPI(
        title="sa2sr",
        summary="Activation, valence and dominance from speech",
        description=f"Live audio goes to the WebSocket `/v1/stream`.\n\n{_stream_description()}",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.service, app.state.access = service, access
    _answer_errors(app)
    app.include_router(_api(service, access))
    app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    if access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(access.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After", "SA2SR-Scale", "SA2SR-Level", "SA2SR-Failures", "SA2SR-Failure-Count"],
        )
    app.add_middleware(Guard, access=access, limits=limits, monitor=monitor)
    return app


def _api(service: Service, access: Access) -> APIRouter:
    router = APIRouter()
    threads = ThreadPoolExecutor(_STREAM_THREADS, thread_name_prefix="stream")
    bearer = HTTPBearer(auto_error=False, description="Where the server asks for a token.")

    def authorise(request: Request, _: Annotated[Any, Depends(bearer)]) -> None:
        if not authorised(request.headers, access):
            raise RefusalError(401, "unauthorised", "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})

    guarded = [Depends(authorise)]
    model = service.model

    async def answer(request: Request, options: Options, *, several: bool) -> Response:
        service.check_open()
        service.check_windows(options.window, options.hop)
        heading = options.heading(model)
        async with service.spool.uploads(request, several=several) as uploads:
            return (await service.predict(uploads, options, heading, request.is_disconnected)).response(options.format)

    @router.post("/v1/predict", dependencies=guarded, openapi_extra=documented(several=False))
    async def predict(request: Request, options: Annotated[Options, Query()]) -> Response:
        """Predict a file: a form with one file, or the file itself as the body."""
        return await answer(request, options, several=False)

    @router.post("/v1/batch", dependencies=guarded, openapi_extra=documented(several=True))
    async def batch(request: Request, options: Annotated[Options, Query()]) -> Response:
        """Predict the files of a form. What cannot be decoded is among the failures, and the rest goes on."""
        return await answer(request, options, several=True)

    @router.get("/v1/model", dependencies=guarded, responses={401: {"description": ERRORS[401]}})
    async def describe() -> dict[str, Any]:
        """What the model predicts, on which scale, and what the server allows."""
        heading, limits = model.heading(), service.limits
        return {
            "model": model.settings.name,
            "version": __version__,
            "dimensions": list(DIMENSIONS),
            "scale": model.scale.model_dump(),
            "categories": list(model.categories),
            "level": heading.level or None,
            "heard": heard(model),
            "columns": list(heading.columns),
            "formats": formats(),
            "sampling_rate": model.settings.frontend.sampling_rate,
            "limits": {"body": limits.body, "files": limits.files, "seconds": limits.seconds, "idle": limits.idle},
        }

    @router.get("/healthz", responses={503: {"description": "It is about to end."}})
    async def healthz() -> dict[str, str]:
        """Whether the server takes requests."""
        service.check_open()
        return {"status": "ok"}

    @router.get("/metrics", dependencies=guarded, response_class=Response)
    async def metrics() -> Response:
        """Counters in Prometheus' text format."""
        return Response(service.monitor.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        await Session(socket, service, access, threads).run()

    return router


def formats() -> list[str]:
    """Kinds of files that the server can decode, by the ends of their names; of each kind the best known."""
    containers = ("m4a", "mp4", "webm", "aac") if find_spec("av") is not None else ()
    return ["wav", "flac", "mp3", "ogg", "opus", *containers]


def _answer_errors(app: FastAPI) -> None:
    """Give all errors one form."""

    @app.exception_handler(RefusalError)
    async def refused(_: Request, refusal: RefusalError) -> Response:
        return refusal.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        wrong = "; ".join(
            f"{each['loc'][-1]}: {each['msg']}" if len(each["loc"]) > 1 else str(each["msg"]) for each in error.errors()
        )
        return RefusalError(422, "bad_request", wrong).response()

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> Response:
        codes = {400: "bad_request", 404: "not_found", 405: "not_allowed"}
        code = codes.get(error.status_code, "error")
        return RefusalError(error.status_code, code, str(error.detail), dict(error.headers or {})).response()

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=499)  # for the counters: nobody reads it

    @app.exception_handler(Exception)
    async def fault(_: Request, __: Exception) -> Response:
        return JSONResponse({"error": {"code": "fault", "message": "the server failed; its log says why"}}, 500)


def _stream_description() -> str:
    from sa2sr.serving import streaming

    return (streaming.__doc__ or "").partition("\n\n")[2]
