"""The folder in which the local stack keeps what outlives it: keys, logs, the database, and who is running now."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import IO, Any

from infra.problem import Problem


class StackFolder:
    """`.local`, or the folder named with --state."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.abspath(path))
        self._lock: IO[str] | None = None

    @property
    def database(self) -> Path:
        """Where Postgres keeps its data."""
        return self.path / "postgres"

    @property
    def logs(self) -> Path:
        """Where every process writes its lines."""
        return self.path / "logs"

    @property
    def snapshot(self) -> Path:
        """What the simulators hold, kept over a restart."""
        return self.path / "simulators.pickle"

    def acquire(self) -> None:
        """Make the folder ours until the process ends; Problem when another stack runs in it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / "up.lock").open("a+")
        except OSError as error:
            raise Problem(f"The folder {self.path} cannot be used ({error.strerror}); choose another one with --state.") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.release()
            found = self.read_state()
            where = f" at {found['url']} (process {found['pid']})" if found else ""
            raise Problem(f"The stack is already running{where}; stop it first, or choose another folder with --state.") from None

    def release(self) -> None:
        """Let another stack run here."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def start_over(self) -> None:
        """Delete the database, what the simulators hold, and the logs; keys stay, so that a copied curl line still works."""
        self.snapshot.unlink(missing_ok=True)
        shutil.rmtree(self.logs, ignore_errors=True)
        try:
            shutil.rmtree(self.database)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise Problem(f"The old database in {self.database} cannot be deleted: {error.strerror}.") from None

    def keys(self) -> dict[str, str]:
        """Return the keys of this stack, made on the first call and kept, so that restarts can read what was encrypted."""
        file = self.path / "keys.json"
        wanted = _new_keys()
        try:
            known = json.loads(file.read_text()) if file.exists() else {}
            keys = {name: str(known.get(name) or value) for name, value in wanted.items()}
        except (OSError, ValueError, AttributeError):
            raise Problem(f"{file} cannot be read; delete it and start with --fresh.") from None
        if keys != known:
            _write_private(file, keys)
        return keys

    def write_state(self, state: dict[str, Any]) -> None:
        """Tell the operator's commands where the stack is."""
        _write_private(self.path / "state.json", state)

    def read_state(self) -> dict[str, Any] | None:
        """Return what the running stack wrote, or None when none is running."""
        try:
            found = json.loads((self.path / "state.json").read_text())
            os.kill(found["pid"], 0)
        except PermissionError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return dict(found)

    def forget_state(self) -> None:
        """The stack has stopped."""
        with contextlib.suppress(OSError):
            (self.path / "state.json").unlink(missing_ok=True)


def _new_keys() -> dict[str, str]:
    return {
        "POOL_API_KEY": "pool-" + secrets.token_urlsafe(24),
        "SERVICES_API_KEY": "services-" + secrets.token_urlsafe(24),
        "SESSION_SECRET": secrets.token_urlsafe(32),
        "RAILWAY_WEBHOOK_SECRET": secrets.token_urlsafe(32),
        "INSTANCE_SECRETS_KEY": "local:" + base64.b64encode(secrets.token_bytes(32)).decode(),
    }


def _write_private(file: Path, content: dict[str, Any]) -> None:
    """Write a file that only we may read; a reader sees the old content or the new one."""
    draft = file.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
        json.dump(content, output, indent=1)
    draft.replace(file)
