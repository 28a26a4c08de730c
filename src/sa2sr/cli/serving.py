"""The command that serves the API and the page."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from sa2sr.cli.app import DeviceOption, EngineOption, Int8Option, ModelOption, app
from sa2sr.errors import UserError

_NEEDED = ("fastapi", "uvicorn", "websockets", "python_multipart", "prometheus_client")


@app.command()
def serve(
    model: ModelOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is reached from everywhere.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    token_file: Annotated[
        Path | None, typer.Option(help="Holds the token that clients must show; or set SA2SR_TOKEN.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="Another page that may ask, such as https://example.org; may be repeated.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A name by which the server is called; may be repeated. A local server has local names."),
    ] = None,
    engine: EngineOption = "auto",
    int8: Int8Option = False,
    device: DeviceOption = "cpu",
    decoders: Annotated[
        int | None, typer.Option(min=1, help="Processes that decode uploads; by default one a processor.")
    ] = None,
    max_body: Annotated[float, typer.Option(min=0.001, help="Megabytes of a request.")] = 100,
    max_seconds: Annotated[float, typer.Option(min=1, help="Seconds of audio in a file.")] = 3600,
    max_queue: Annotated[int, typer.Option(min=1, help="Files at a time; more are answered 503.")] = 128,
    max_streams: Annotated[int, typer.Option(min=0, help="Live streams at a time.")] = 64,
    idle: Annotated[float, typer.Option(min=0.1, help="Seconds without a byte that a client may take.")] = 30,
    decoding: Annotated[float, typer.Option(min=0.1, help="Seconds that decoding a file may take.")] = 60,
    grace: Annotated[float, typer.Option(min=1, help="Seconds to finish at the end what was accepted.")] = 60,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log every request.")] = False,
) -> None:
    """Serve predictions over HTTP and WebSocket, and a page to try them on.

    The page is at the address that is printed; /openapi.json describes the API. Only this machine can reach it unless
    --host says otherwise. SIGTERM or Ctrl-C finishes what was accepted. Examples:

    sa2sr serve --model runs/emotion

    curl -F file=@call.wav 'http://127.0.0.1:8000/v1/predict?window=6&hop=2&format=csv'
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise UserError(f"the server needs {', '.join(missing)}: pip install 'sa2sr[serve]'")

    from sa2sr.inference import load
    from sa2sr.serving.app import create_app
    from sa2sr.serving.server import LOCAL_NAMES, is_local, listen, run, url
    from sa2sr.serving.settings import Access, Limits

    token = _token(token_file)
    names = tuple(name.lower() for name in allow_host or ())
    local = is_local(host)
    hosts = (*LOCAL_NAMES, host.lower(), *names) if local or names else None
    limits = replace(
        Limits(seconds=max_seconds, queue=max_queue, streams=max_streams, idle=idle, decoding=decoding),
        body=round(max_body * 1_000_000),
    )
    loaded = load(model, engine=engine, device=device, int8=int8)
    access = Access(token=token, origins=tuple(allow_origin or ()), hosts=hosts)
    application = create_app(loaded, limits=limits, access=access, decoders=decoders)
    listener = listen(host, port)
    if not local and token is None:
        typer.secho(f"anybody who reaches {host} may ask: no token is set", fg="yellow", err=True)
    typer.echo(f"{loaded.settings.name}: {url(listener)}", err=True)
    run(application, listener, grace=grace, access_log=access_log)


def _token(file: Path | None) -> str | None:
    """The token that clients must show.

    Raises:
        UserError: if it cannot be read, or is hardly one
    """
    import os

    try:
        token = file.read_text(encoding="utf-8").strip() if file else os.environ.get("SA2SR_TOKEN", "").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from None
    if file and not token:
        raise UserError(f"{file}: holds no token")
    if token and (len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token):
        raise UserError("the token must have 16 or more ASCII characters without spaces: openssl rand -hex 32")
    return token or None
