"""The health page and the metrics page, made of what a monitor knows."""

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from ringfence.faces.checks import checks_document, is_well
from ringfence.faces.gauges import gauges
from ringfence.faces.health import Expected, health
from ringfence.faces.observatory import Page
from ringfence.runtime.metrics import Counted
from ringfence.runtime.monitor import Monitor
from ringfence.words.terminal import json_text

__all__ = ["pages"]


class _Gauges:
    def __init__(self, monitor: Monitor, expected: Expected) -> None:
        self._monitor, self._expected = monitor, expected

    def collect(self) -> Iterator[Metric]:
        state = self._monitor.state()
        return gauges(state, health(state, self._expected))


def pages(monitor: Monitor, expected: Expected, shared: Path | None) -> dict[str, Page]:
    """By path; `shared` is the folder in which the parts count."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Gauges(monitor, expected))
    if shared is not None:
        registry.register(Counted(shared))

    def health_page() -> tuple[HTTPStatus, str, bytes]:
        checks = health(monitor.state(), expected)
        status = HTTPStatus.OK if is_well(checks) else HTTPStatus.SERVICE_UNAVAILABLE
        return status, "application/json; charset=utf-8", json_text(checks_document(checks)).encode() + b"\n"

    def metrics_page() -> tuple[HTTPStatus, str, bytes]:
        return HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(registry)

    return {"/health": health_page, "/metrics": metrics_page}
