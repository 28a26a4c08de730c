"""Bodies of requests are received in bounded memory: uploads go to temporary files under names of our own."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope

from sa2sr.audio import SUFFIXES
from sa2sr.serving.admission import Capacity
from sa2sr.serving.refusals import RefusalError
from sa2sr.serving.settings import Limits

_LONGEST_NAME = 255  # characters


@dataclass(frozen=True)
class Upload:
    """A file that a client sent."""

    name: str  # by the client: only ever a label
    path: Path  # by us


def bounded(scope: Scope, receive: Receive, limits: Limits) -> Receive:
    """``receive`` of a body that may be neither too large nor too slow.

    Raises:
        RefusalError: 413 as soon as a byte too many is announced or has come, 408 when the client is too slow
    """
    size = 0
    deadline = asyncio.get_running_loop().time() + limits.upload
    too_large = RefusalError(413, "too_large", f"a request may have {limits.body:,} bytes")
    announced = dict(scope["headers"]).get(b"content-length", b"")
    complete = False

    async def receive_bounded() -> Message:
        nonlocal size, complete
        if announced.isdigit() and int(announced) > limits.body:
            raise too_large
        if complete:
            return await receive()  # waits until the client is gone
        left = deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(left, limits.idle)):
                message = await receive()
        except TimeoutError:
            raise RefusalError(408, "too_slow", f"nothing came for {limits.idle:g} s, or not all in time") from None
        size += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        if size > limits.body:
            raise too_large
        return message

    return receive_bounded


class Spool:
    """Where uploads wait: a temporary folder with a bounded number of bytes."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = Capacity(limits.spool, "uploads")
        self.receiving = Capacity(limits.uploads, "uploads")
        self._folder = tempfile.TemporaryDirectory(prefix="sa2sr-")

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()

    @asynccontextmanager
    async def uploads(self, request: Request, *, several: bool = False) -> AsyncIterator[list[Upload]]:
        """The files in the body of a request, there for the duration of a block.

        Args:
            request: with one file as its body, or with a multipart form
            several: whether a form may have more than one

        Raises:
            RefusalError: if there are none or too many, or no room
        """
        most = self.limits.files if several else 1
        with self._files() as files:
            with self.receiving.held():
                if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
                    uploads = await self._of_form(request, files, most)
                else:
                    uploads = [await self._of_body(request, files)]
            if not uploads:
                raise RefusalError(400, "no_file", "the form has no file; send one as a field of any name")
            yield uploads

    async def _of_body(self, request: Request, files: "_Files") -> Upload:
        name = _label(request.query_params.get("name", ""))
        path, file = files.new(name)
        with file:
            async for chunk in request.stream():
                files.account(len(chunk))
                file.write(chunk)
            if not file.tell():
                raise RefusalError(400, "no_file", "the request has no body; send audio, or a form with a file")
        return Upload(name, path)

    async def _of_form(self, request: Request, files: "_Files", most: int) -> list[Upload]:
        # The parser writes files to disk as they come; what it may write is known when a chunk has come.
        receive = request.receive

        async def accounted() -> Message:
            message = await receive()
            files.account(len(message.get("body", b"")))
            return message

        form_request = Request(request.scope, accounted)
        uploads = []
        try:
            async with form_request.form(max_files=most, max_fields=16, max_part_size=1 << 16) as form:
                for _, each in form.multi_items():
                    if isinstance(each, UploadFile):
                        path, file = files.new(name := _label(each.filename or ""))
                        with file:
                            await asyncio.to_thread(shutil.copyfileobj, each.file, file)
                        uploads.append(Upload(name, path))
        except FormParserError as error:  # which starlette does not always take for the client's mistake
            raise RefusalError(400, "bad_request", f"the form cannot be read ({error})") from None
        return uploads

    @contextmanager
    def _files(self) -> Iterator["_Files"]:
        files = _Files(Path(self._folder.name), self.held)
        try:
            yield files
        finally:
            files.remove()


class _Files:
    """The files of a request, and the bytes that it holds of the spool."""

    def __init__(self, folder: Path, held: Capacity) -> None:
        self.folder, self.held, self.size = folder, held, 0
        self.paths: list[Path] = []

    def new(self, name: str) -> tuple[Path, IO[bytes]]:
        suffix = Path(name).suffix.lower()
        known = suffix if suffix in SUFFIXES else ""  # which libsndfile may want to know
        handle, path = tempfile.mkstemp(suffix=known, dir=self.folder)
        self.paths.append(Path(path))
        return Path(path), os.fdopen(handle, "wb")

    def account(self, size: int) -> None:
        self.held.take(size)
        self.size += size

    def remove(self) -> None:
        for path in self.paths:
            path.unlink(missing_ok=True)
        self.held.give_back(self.size)


def _label(name: str) -> str:
    """A name by a client as a label: without folders and control characters, and not endless."""
    printable = "".join(character for character in name if character.isprintable())
    return printable.replace("\\", "/").rpartition("/")[2][-_LONGEST_NAME:] or "audio"


__all__ = ["ClientDisconnect", "Spool", "Upload", "bounded"]
