"""Follows how the pool warms up, for the person who looks at the terminal."""

from __future__ import annotations

import httpx

WARM = "The pool is warm: claims are answered at once."


class PoolWatch:
    """Asks the front door for its counts and tells what is new."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=5.0, trust_env=False)
        self._told = ""
        self._warm = False

    def news(self) -> list[str]:
        """Return sentences that were not true before; none once the pool has been warm."""
        if self._warm:
            return []
        try:
            found = self._client.get("/api/pool/counts").json()
            sentence = progress(found)
            self._warm = found["counts"].get("idle", 0) >= found["target"]
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError):
            return []
        if sentence == self._told:
            return []
        self._told = sentence
        return [sentence, WARM] if self._warm and found["target"] else [sentence]


def progress(found: dict[str, object]) -> str:
    """Say in a line how far the pool is, from the answer of `GET /api/pool/counts`."""
    counts = found["counts"]
    if not isinstance(counts, dict):
        raise TypeError("counts is an object")
    others = ", ".join(f"{number} {status}" for status, number in counts.items() if number and status != "idle")
    return f"pool: {counts.get('idle', 0)} of {found['target']} idle" + (f" ({others})" if others else "")
