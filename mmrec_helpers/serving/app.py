"""The HTTP service: validation, limits, deadlines with a fallback, metrics, and a switch between versions."""

import asyncio
import hmac
import logging
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import faiss
import torch
import uvicorn
from fastapi import FastAPI, Header, HTTPException, Response
from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request as HTTPRequest
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from mmrec_helpers.serving import versions
from mmrec_helpers.serving.batching import Batcher, Limits, Overloaded
from mmrec_helpers.serving.pipeline import Answer, Pipeline, Request, UnknownName, WorkerGone
from mmrec_helpers.serving.sessions import RedisSessions, Sessions, SessionsLost

Load = Callable[[Path, str], Pipeline]
LATENCIES = (0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Upper bounds of the latency histogram, in seconds."""


class Body(BaseModel):
    """The body of a request for recommendations, in the shop's own names.

    In a session the history is what is new: it is kept, and comes after what the session's earlier requests sent.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    history: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field([], max_length=200)
    k: int = Field(10, ge=1, le=100)
    category: str = Field("", max_length=64)
    query: str = Field("", max_length=200)
    session: str = Field("", pattern="^[A-Za-z0-9_-]{0,64}$")


class Version(BaseModel):
    """The name of a version; null stands for the version that was active before."""

    version: str | None = Field(max_length=100)


class Service:
    """The active version with its batches, the switch to another one, and the metrics; see ``create_app``."""

    def __init__(self, root: Path, limits: Limits, sessions: str, load: Load, until: Pipeline | None) -> None:
        self.root, self.limits, self.load, self.until, self.switching = root, limits, load, until, asyncio.Lock()
        self.sessions = RedisSessions(sessions) if sessions else Sessions(root / "sessions.sqlite")
        self.status = "ok"
        self.current: tuple[Pipeline, Batcher] | None = None
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.answers = Counter("recommendations", "Answers, by what gave them.", ["by"], registry=registry)
        self.latency = Histogram("latency_seconds", "Of an answer.", buckets=LATENCIES, registry=registry)
        sizes = [2**power for power in range(8)]
        self.batch_size = Histogram("batch_size", "Requests in a batch.", buckets=sizes, registry=registry)
        self.lost = Counter("session_errors", "Requests whose session could not be kept.", registry=registry)
        waiting = Gauge("waiting", "Requests in the queue.", registry=registry)
        waiting.set_function(lambda: self.current[1].queue.qsize() if self.current else 0)

    async def start(self) -> None:
        """Serve the active version; if there is none, what answers until there is."""
        if version := versions.active(self.root):
            await self.serve(await asyncio.to_thread(self.load, self.root, version))
        elif self.until:
            await self.serve(self.until)

    async def serve(self, pipeline: Pipeline) -> None:
        """Answer new requests by this version; what the one before accepted, that one still answers."""

        def answer(requests: Sequence[Request]) -> list[Answer]:
            self.batch_size.observe(len(requests))
            return pipeline.recommend(requests)

        before, self.current = self.current, (pipeline, Batcher(answer, self.limits))
        if before:
            await before[1].stop()
            before[0].close()

    async def switch(self, version: str | None) -> str:
        """Activate a version, None is the previous one, and serve it; if it is damaged, nothing changes."""
        async with self.switching:
            target = versions.previous(self.root) if version is None else version
            pipeline = await asyncio.to_thread(self.load, self.root, target)
            versions.activate(self.root, target, rollback=version is None)
            await self.serve(pipeline)
        return target

    async def stop(self) -> None:
        """Answer what was accepted, then end."""
        if self.current:
            await self.current[1].stop()
            self.current[0].close()
        self.sessions.close()

    def whole_history(self, body: Body, numbers: Mapping[str, int]) -> tuple[int, ...]:
        """The items of a session, the new ones included; the new ones alone if the store fails."""
        try:
            names, self.status = self.sessions.add(body.session, body.history), "ok"
        except SessionsLost:
            self.lost.inc()
            names, self.status = body.history, "sessions are not kept"
        return tuple(numbers[name] for name in names if name in numbers)  # another version may have other items

    async def recommend(self, body: Body) -> dict[str, Any]:
        """The version, the items with their scores, and why popularity answered for it: it was too slow, or failed.

        Raises:
            HTTPException: no version is active, a name is unknown, or too many requests wait.
        """
        if self.current is None:
            raise HTTPException(503, "no version is active")
        (pipeline, batcher), fallback = self.current, None
        try:
            request = pipeline.catalogue.request(body.history, body.k, body.category, body.query)
            if body.session and not batcher.is_full:  # a refused client sends the same items again
                request = replace(request, history=self.whole_history(body, pipeline.catalogue.numbers))
            with self.latency.time():
                answer = await asyncio.wait_for(batcher.submit(request), self.limits.timeout)
        except UnknownName as error:
            raise HTTPException(422, str(error)) from error
        except Overloaded as error:
            self.answers.labels("none: overloaded").inc()
            raise HTTPException(429, "too many requests wait; try again", {"Retry-After": "1"}) from error
        except Exception as error:
            fallback = {TimeoutError: "timeout", WorkerGone: "worker gone"}.get(type(error), "error")
            if fallback == "error":
                logging.getLogger(__name__).exception("version %s failed", pipeline.version)
            answer = pipeline.catalogue.most_popular(request)
        no_model = "no version" if pipeline is self.until else fallback
        self.answers.labels(f"popularity: {no_model}" if no_model else "model").inc()
        items = [{"item": str(pipeline.catalogue.item_ids[item]), "score": score} for item, score in answer]
        return {"version": pipeline.version, "fallback": fallback, "items": items}


def create_app(
    root: Path,
    token: str = "",
    limits: Limits | None = None,
    sessions: str = "",
    load: Load = versions.load,
    until: Pipeline | None = None,
) -> FastAPI:
    """The service of the versions in a folder; it begins with the active one.

    Args:
        root: folder of the versions.
        token: that a request to switch must bear; without one nobody can switch over HTTP.
        limits: of the service.
        sessions: URL of the Redis that keeps them; without one they are kept in a file of the folder.
        load: makes a pipeline of a folder of versions and a name.
        until: answers as long as no version is active; without it the service answers 503 then.
    """
    limits = limits or Limits()
    service = Service(root, limits, sessions, load, until)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    # No page of documentation: FastAPI's would load scripts from another host.
    app = FastAPI(title="Recommendations", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=limits.body)

    @app.exception_handler(RequestValidationError)
    def refuse(_: HTTPRequest, error: RequestValidationError) -> JSONResponse:
        """Name the first fault, without the input: it may be huge, or no valid text."""
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))[:100]
        return JSONResponse({"detail": ascii(f"{place}: {fault['msg'][:200]}")[1:-1]}, 422)

    @app.post("/recommend")
    async def recommend(body: Body) -> JSONResponse:
        """Items for a history."""
        return JSONResponse(await service.recommend(body))

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process answers, and whether the last request with a session was kept."""
        return {"status": service.status}

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        """The version that answers; 503 if there is none."""
        if service.current is None:
            raise HTTPException(503, "no version is active")
        return {"version": service.current[0].version}

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counters in the format of Prometheus."""
        return Response(generate_latest(service.registry), media_type="text/plain; version=0.0.4")

    @app.post("/version")
    async def switch(body: Version, authorization: Annotated[str, Header()] = "") -> dict[str, str]:
        """Switch to a version."""
        if not token or not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "a switch needs the service's token")
        try:
            return {"version": await service.switch(body.version)}
        except (ValueError, FileNotFoundError) as error:
            raise HTTPException(422, str(error)) from error

    return app


def run(root: Path, port: int, sessions: str = "", until: Pipeline | None = None, token: str = "") -> None:
    """Serve a folder on this machine alone until a signal comes; the arguments are those of ``create_app``."""
    token = token or secrets.token_urlsafe(16)
    print(f"Versions lie in {root}", f"Switch with the header Authorization: Bearer {token}", sep="\n", flush=True)
    torch.set_num_threads(1)  # a batch is small, and the other cores parse and validate
    faiss.omp_set_num_threads(1)
    app = create_app(root, token, sessions=sessions, until=until)
    uvicorn.run(app, port=port, access_log=False, server_header=False, timeout_graceful_shutdown=10)


if __name__ == "__main__":  # python -m mmrec_helpers.serving.app FOLDER PORT
    run(Path(sys.argv[1]), int(sys.argv[2]))
