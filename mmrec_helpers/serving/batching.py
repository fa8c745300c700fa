"""Dynamic batching: requests that arrive at about the same time are answered together."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mmrec_helpers.serving.pipeline import Answer, Request


class Overloaded(Exception):
    """Too many requests wait already."""


@dataclass(frozen=True)
class Limits:
    """Limits of the service.

    Attributes:
        batch_size: maximum number of requests that are answered together.
        wait: seconds that the first request of a batch waits for others.
        waiting: maximum number of requests that wait; further ones are refused.
        timeout: seconds after which a request is answered by popularity.
        body: bytes of the largest body.
    """

    batch_size: int = 64
    wait: float = 0.002
    waiting: int = 256
    timeout: float = 0.2
    body: int = 65_536


class Batcher:
    """Answers requests in batches, one batch after the other, in a thread of its own.

    A batch begins when its first request arrives. It takes what arrives within ``wait`` seconds, and under load what
    arrived while the batch before it was answered, so batches grow with the load. To be made in a running event loop.

    Args:
        answer: gives one answer for each request of a batch.
        limits: of batches and of the queue.
    """

    def __init__(self, answer: Callable[[Sequence[Request]], list[Answer]], limits: Limits) -> None:
        self.answer, self.limits = answer, limits
        self.queue: asyncio.Queue[tuple[Request, asyncio.Future[Answer]] | None] = asyncio.Queue(limits.waiting)
        self.executor = ThreadPoolExecutor(1, "batch")
        self.task = asyncio.create_task(self._run())
        self.is_stopping = False

    @property
    def is_full(self) -> bool:
        """Whether a request would be refused now."""
        return self.is_stopping or self.queue.full()

    def submit(self, request: Request) -> asyncio.Future[Answer]:
        """The future answer to a request. If it is cancelled while the request waits, nothing is computed for it.

        Raises:
            Overloaded: the queue is full, or the batcher stops.
        """
        if self.is_full:
            raise Overloaded
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.queue.put_nowait((request, future))
        return future

    async def stop(self) -> None:
        """Answer what was accepted, then end."""
        self.is_stopping = True
        await self.queue.put(None)
        await self.task
        self.executor.shutdown()

    async def _run(self) -> None:
        while (first := await self.queue.get()) is not None:
            batch, is_last = [first], False
            if self.queue.qsize() + 1 < self.limits.batch_size:
                await asyncio.sleep(self.limits.wait)
            while len(batch) < self.limits.batch_size and not self.queue.empty() and not is_last:
                further = self.queue.get_nowait()
                is_last = further is None
                batch += [further] if further else []
            await self._answer([pair for pair in batch if not pair[1].done()])
            if is_last:
                return

    async def _answer(self, batch: list[tuple[Request, asyncio.Future[Answer]]]) -> None:
        if not batch:
            return
        requests = [request for request, _ in batch]
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self.executor, self.answer, requests)
        except Exception as error:  # of the model: those who wait decide what it means
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
