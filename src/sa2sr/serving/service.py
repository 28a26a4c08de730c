"""What does the work of a server: uploads in, answers out."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from starlette.requests import ClientDisconnect

from sa2sr.errors import AudioError
from sa2sr.inference.clips import Clip
from sa2sr.inference.model import Model
from sa2sr.inference.table import Failure, Heading
from sa2sr.processes import processors
from sa2sr.serving.admission import Capacity
from sa2sr.serving.answers import Answer, Options, TooLong
from sa2sr.serving.batching import Batcher, Results, SharedModel
from sa2sr.serving.decoder import TooLongError
from sa2sr.serving.decoding import Decoders, Job
from sa2sr.serving.monitoring import Monitor
from sa2sr.serving.refusals import RefusalError, busy
from sa2sr.serving.requests import Spool, Upload
from sa2sr.serving.settings import Limits

_FILES_AT_A_TIME = 4  # of a batch, so that other clients get their turn


class Service:
    """A model behind decoders and a batcher, with bounded room for work.

    Attributes:
        draining: whether the server is about to end; then it takes nothing new
    """

    def __init__(self, model: Model, limits: Limits, monitor: Monitor, *, decoders: int | None = None) -> None:
        """Prepare; :meth:`start` starts.

        Args:
            model: that predicts emotions
            limits: of the work
            monitor: that is told of it
            decoders: processes; by default one a processor

        Raises:
            ModelError: if the model does not predict emotions
        """
        _ = model.scale  # which a model that does not predict emotions does not have
        self.limits, self.monitor = limits, monitor
        self.batcher = Batcher(model)
        self.model = SharedModel(self.batcher)
        self.decoders = Decoders(
            decoders or processors(), model.settings.frontend, shortest=model.shortest, patience=limits.decoding
        )
        self.spool = Spool(limits)
        self.queue = Capacity(limits.queue, "files")
        self.streams = Capacity(limits.streams, "streams")
        self.draining = asyncio.Event()
        monitor.watch("sa2sr_queue", "Files that wait or are being predicted.", lambda: self.queue.taken)
        monitor.watch("sa2sr_streams", "Open streams.", lambda: self.streams.taken)
        monitor.watch("sa2sr_batches", "Batches since the start.", lambda: self.batcher.batches)
        monitor.watch("sa2sr_batched_clips", "Clips in these batches.", lambda: self.batcher.clips)
        monitor.watch("sa2sr_spooled_bytes", "Bytes of uploads that are held.", lambda: self.spool.held.taken)
        monitor.watch("sa2sr_decoder_restarts", "Decoders that had to be replaced.", lambda: self.decoders.restarts)

    async def start(self) -> None:
        """Start the processes."""
        await self.decoders.start()

    async def close(self) -> None:
        """End them when all that was asked for is done."""
        await asyncio.to_thread(self.batcher.close)
        await self.decoders.close()
        self.spool.close()

    def check_open(self) -> None:
        """Raise a refusal if the server is about to end."""
        if self.draining.is_set():
            raise busy("the server is shutting down", 5)

    def check_windows(self, window: float | None, hop: float | None) -> None:
        """Raise a refusal if there would be more windows than anybody needs."""
        step = hop or window
        if step is None or window is None:
            return
        if step < self.limits.shortest_hop:
            raise RefusalError(422, "bad_request", f"windows begin every {self.limits.shortest_hop:g} s at most")
        if window > self.limits.overlap * step:
            raise RefusalError(422, "bad_request", f"at most {self.limits.overlap:g} windows may overlap")

    async def predict(
        self, uploads: Sequence[Upload], options: Options, heading: Heading, gone: Callable[[], Awaitable[bool]]
    ) -> Answer:
        """Predict files; what cannot be predicted is among the failures of the answer.

        Args:
            uploads: the files
            options: of the request
            heading: of the answer
            gone: whether the client is, and nobody waits for the answer

        Raises:
            ClientDisconnect: if it is
            RefusalError: 503, if there is no room for them
        """
        request = _Request(options, heading, gone, self.limits.work)
        turns = asyncio.Semaphore(_FILES_AT_A_TIME)

        async def of(upload: Upload) -> Results:
            async with turns:
                return await self._rows(upload, request)

        with self.queue.held(len(uploads)):
            results = await asyncio.gather(*map(of, uploads))
        answer = Answer(heading)
        for upload, each in zip(uploads, results, strict=True):
            answer.add(each, upload.name, self.model.scale)
        self.monitor.rows.inc(len(answer.rows))
        self.monitor.audio.inc(math.fsum(row["end"] - row["start"] for row in answer.rows))
        self.monitor.failures.inc(len(answer.failures))
        return answer

    async def _rows(self, upload: Upload, request: "_Request") -> Results:
        """The rows of a file, and a failure for what gave none."""
        options, heading = request.options, request.heading
        job = Job(upload.path, options.longest, options.windows, self.limits.seconds)
        results: Results = []
        computing: asyncio.Future[Results] | None = None
        failure: AudioError | None = None
        async with aclosing(self.decoders.clips(job)) as chunks:
            try:
                async for clips in chunks:  # while the clips before them are being computed
                    request.account(clips, upload)
                    following = asyncio.wrap_future(self.batcher.submit(clips, heading.level, heading.extras))
                    if computing is not None:
                        results += await computing
                    computing = following
                    if await request.gone():
                        raise ClientDisconnect
            except AudioError as error:
                failure = error
        if computing is not None:
            results += await computing
        if isinstance(failure, TooLongError):
            return [TooLong(upload.name, failure.reason)]
        if failure is not None:
            # What libraries say may hold a path, which is nobody's business.
            results.append(Failure(upload.name, failure.reason.replace(str(upload.path), upload.name)))
        return results


@dataclass
class _Request:
    """What the files of a request have in common."""

    options: Options
    heading: Heading
    gone: Callable[[], Awaitable[bool]]
    work: float  # seconds that are left

    def account(self, clips: Sequence[Clip], upload: Upload) -> None:
        """Raise a TooLongError if there is more to do than a request may ask for."""
        self.work -= sum(max(1.0, clip.end - clip.start) for clip in clips)
        if self.work < 0:
            raise TooLongError(upload.path, "has too many windows for one request; take a longer hop")
