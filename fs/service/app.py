"""The admin port of a process: health, status, metrics and, on a manager, its service."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Response

from firepond.fs.ids import Incarnation
from firepond.fs.manager.controller import Controller
from firepond.fs.manager.service import manager_routes
from firepond.fs.service import http_errors, metrics
from firepond.fs.service.agent import Agent
from firepond.fs.service.body_limit import BodyLimit


def make_app(
    incarnation: Incarnation, agents: Sequence[Agent], controller: Controller | None
) -> FastAPI:
    """The routes of a process with these roles."""
    started_s = time.monotonic()
    app = FastAPI(title="firepond", docs_url=None, redoc_url=None)
    http_errors.install(app)
    app.add_middleware(BodyLimit)

    @app.get("/v1/health")
    async def health() -> dict[str, Any]:
        return {
            "incarnation": incarnation,
            "node_ids": [agent.node for agent in agents if agent.node is not None],
            "roles": [agent.role.name for agent in agents],
        }

    @app.get("/v1/process")
    def process() -> dict[str, Any]:
        return {
            agent.role.name: {"node_id": agent.node, **agent.role.report()}
            for agent in agents
            if agent.started.is_set()
        }

    @app.get("/metrics")
    def read_metrics() -> Response:
        samples = metrics.process_samples(started_s)
        for agent in agents:
            if agent.started.is_set():
                report = agent.role.report()
                samples += metrics.storage_samples(report) + metrics.meta_samples(report)
        if controller is not None:
            samples += metrics.manager_samples(controller.state, controller.store.term)
        return Response(metrics.render(samples), media_type="text/plain; version=0.0.4")

    if controller is not None:
        app.include_router(manager_routes(controller))
    return app
