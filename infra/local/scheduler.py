"""Calls the tick as Cloud Scheduler does: its headers, at least once, never two calls of the job at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import httpx

JOB = "convos-agents-tick"
ATTEMPT_SECONDS = 180.0
_LOGS = "python3 -m infra logs tick"


class Scheduler:
    """A thread that posts to *url* every *every_seconds*, the first time at once. `stop` waits for nobody's answer."""

    def __init__(
        self,
        url: str,
        *,
        key: str,
        every_seconds: float,
        tell: Callable[[str], None],
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """*tell* receives a sentence when calls begin to fail, and when they succeed again."""
        self._url = url
        self._every_seconds = every_seconds
        self._tell = tell
        self._client = httpx.Client(transport=transport, timeout=ATTEMPT_SECONDS, trust_env=False)
        self._headers = {
            "Authorization": f"Bearer {key}",
            "User-Agent": "Google-Cloud-Scheduler",
            "Content-Type": "application/json",
            "X-CloudScheduler": "true",
            "X-CloudScheduler-JobName": JOB,
        }
        self._problem = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    def start(self) -> None:
        """Begin; the first call is made at once."""
        self._thread.start()

    def stop(self) -> None:
        """Make no further call."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            started = time.monotonic()
            self.call()
            self._ended.wait(max(0.0, self._every_seconds - (time.monotonic() - started)))

    def call(self) -> None:
        """Call the tick once; a failure is told once and then only when it changes."""
        headers = {**self._headers, "X-CloudScheduler-ScheduleTime": datetime.now(UTC).isoformat()}
        try:
            answer = self._client.post(self._url, content=b"{}", headers=headers)
            problem = "" if answer.is_success else f"The tick answered {answer.status_code}{_reason(answer)}; see `{_LOGS}`."
        except httpx.HTTPError:
            problem = f"The tick could not be called; see `{_LOGS}`."
        if problem != self._problem and not self._ended.is_set():
            self._tell(problem or "The tick works again.")
        self._problem = problem


def _reason(answer: httpx.Response) -> str:
    """Return the message of the error body, or nothing where there is none."""
    try:
        message = str(answer.json()["error"]["message"]).rstrip(".")
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {message}"
