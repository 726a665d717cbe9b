"""Processes that end with the one that started them, and that never run a server as root.

What belongs here: how a child is forked. What it is and how one talks to it belongs to whoever starts it.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522


@dataclass(frozen=True)
class Owner:
    """The user that a child runs as; *keeps_reach* lets it pass folders that only root may enter."""

    uid: int
    gid: int
    keeps_reach: bool = False


def unprivileged(name: str = "nobody") -> Owner | None:
    """Return the user that servers run as: None, meaning ourselves, unless we are root."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam(name)
    return Owner(entry.pw_uid, entry.pw_gid)


def reaches(owner: Owner, *paths: Path) -> bool:
    """Whether *owner* may pass every folder above *paths* by the permissions given to everybody."""
    above = {folder for path in paths for folder in path.resolve().parents}
    return all(folder.stat().st_mode & 0o001 or folder.stat().st_uid == owner.uid for folder in above)


def spawn(
    command: Sequence[str],
    *,
    owner: Owner | None = None,
    environment: Mapping[str, str] | None = None,
    output: IO[bytes] | int = subprocess.DEVNULL,
    last_signal: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start *command* in a session of its own (a Ctrl-C at the terminal reaches only us).

    On Linux the kernel sends it *last_signal* when the thread that called us ends, however it ends: call from a thread that
    lives as long as the child should. Elsewhere only an orderly stop ends it.
    """
    return subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=None if environment is None else dict(environment),
        start_new_session=True,
        preexec_fn=_preparation(owner, last_signal),
    )


def run(command: Sequence[str], *, owner: Owner | None, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run *command* to its end; returns its exit status and all it printed."""
    child = spawn(command, owner=owner, environment=environment, output=subprocess.PIPE, last_signal=signal.SIGKILL)
    printed, _ = child.communicate()
    return child.returncode, printed.decode(errors="replace")


def _preparation(owner: Owner | None, last_signal: signal.Signals) -> Callable[[], None]:
    """What runs in the child between fork and exec; everything it needs is looked up before the fork."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    parent = os.getpid()

    def prepare() -> None:
        if owner is not None:
            _become(owner, libc)
        if libc is not None:
            # After the change of user, which would clear it.
            libc.prctl(_PR_SET_PDEATHSIG, int(last_signal), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return prepare


def _become(owner: Owner, libc: ctypes.CDLL | None) -> None:
    keeps_reach = owner.keeps_reach and libc is not None
    if keeps_reach and libc is not None:
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([owner.gid])
    os.setgid(owner.gid)
    os.setuid(owner.uid)
    if keeps_reach and libc is not None:
        _keep_reach(libc)


def _keep_reach(libc: ctypes.CDLL) -> None:
    """Keep the one capability that opens closed folders (a checkout below /root, say), also after exec.

    The structures are those of capset(2): a header of version and process, then effective, permitted, inheritable for the
    lower and the upper 32 capabilities.
    """
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    mask = 1 << _CAP_DAC_OVERRIDE
    data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    libc.capset(header, data)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)
