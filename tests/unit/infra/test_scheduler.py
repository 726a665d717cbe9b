"""The scheduler: Cloud Scheduler's headers, one call at a time, and silence about what is already known."""

import threading
import time
from datetime import datetime

import httpx

from infra.local.scheduler import JOB, Scheduler


def scheduler(handler: httpx.MockTransport, told: list[str], *, every_seconds: float = 0.02) -> Scheduler:
    return Scheduler("http://pool/tick", key="k" * 20, every_seconds=every_seconds, tell=told.append, transport=handler)


def test_the_call_looks_like_cloud_scheduler_s() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200)

    scheduler(httpx.MockTransport(handler), []).call()
    request = seen[0]
    assert (request.method, request.url.path, request.content) == ("POST", "/tick", b"{}")
    assert request.headers["User-Agent"] == "Google-Cloud-Scheduler"
    assert request.headers["X-CloudScheduler"] == "true"
    assert request.headers["X-CloudScheduler-JobName"] == JOB
    assert datetime.fromisoformat(request.headers["X-CloudScheduler-ScheduleTime"]).tzinfo is not None
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Authorization"] == "Bearer " + "k" * 20


def test_two_calls_never_overlap_and_the_first_is_made_at_once() -> None:
    lock, overlaps, calls, enough = threading.Lock(), [], [], threading.Event()

    def handler(request: httpx.Request) -> httpx.Response:
        if not lock.acquire(blocking=False):
            overlaps.append(1)
        time.sleep(0.05)
        lock.release()
        calls.append(time.monotonic())
        if len(calls) == 3:
            enough.set()
        return httpx.Response(200)

    running = scheduler(httpx.MockTransport(handler), [], every_seconds=0.01)
    running.start()
    assert enough.wait(5)
    running.stop()
    assert not overlaps


def test_a_failure_is_told_once_and_so_is_its_end() -> None:
    answers = iter([500, 500, 200, 200])
    told: list[str] = []
    calling = scheduler(httpx.MockTransport(lambda request: httpx.Response(next(answers))), told)
    for _ in range(4):
        calling.call()
    assert len(told) == 2
    assert "500" in told[0]
    assert told[1] == "The tick works again."


def test_nobody_listening_is_told_and_not_raised() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    told: list[str] = []
    scheduler(httpx.MockTransport(refuse), told).call()
    assert "could not be called" in told[0]


def test_the_reason_that_the_tick_gives_is_told() -> None:
    body = {"error": {"code": "settings", "message": "POOL_MIN_IDLE is malformed.", "requestId": "r1"}}
    told: list[str] = []
    scheduler(httpx.MockTransport(lambda request: httpx.Response(500, json=body)), told).call()
    assert told == ["The tick answered 500: POOL_MIN_IDLE is malformed; see `python3 -m infra logs tick`."]
