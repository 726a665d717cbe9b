"""Makes the project's virtual environment and continues inside it. Standard library only.

The environment is `.venv`, or the folder that INFRA_VENV names; `INFRA_VENV=current` uses the running interpreter as it is.
What was installed is remembered as a digest of the requirement files, so a second start installs nothing. Two starts at once
wait for each other. pip installs uv, uv installs the rest; where uv cannot, pip does it, slowly.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from infra.problem import Problem

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = {"stack": ROOT / "infra" / "requirements.txt", "tests": ROOT / "tests" / "requirements.txt"}
UV = "uv==0.13.9"
_STAMP = ".installed.json"
_TAIL_LINES = 12


def enter(needs: str, argv: list[str]) -> None:
    """Return at once inside a suitable environment; else make it and start this command again within it.

    *needs* is a key of REQUIREMENTS. Raises Problem with one sentence when the environment cannot be made.
    """
    folder = venv_folder()
    if folder is None:
        return
    if not is_current(folder, needs):
        _prepare(folder, needs)
    if Path(sys.prefix).resolve() == folder.resolve():
        return
    sys.stdout.flush()
    python = str(_python(folder))
    os.execv(python, [python, "-m", "infra", *argv])


def venv_folder() -> Path | None:
    """Return the environment's folder, or None when the running interpreter is to be used as it is."""
    wanted = os.environ.get("INFRA_VENV", "").strip()
    if wanted == "current":
        return None
    return Path(os.path.abspath(wanted)) if wanted else ROOT / ".venv"


def is_current(folder: Path, needs: str) -> bool:
    """Whether everything that *needs* asks for was installed in *folder*, from the files as they are now."""
    return _python(folder).exists() and _read_stamp(folder).get(needs) == digest(REQUIREMENTS[needs])


def digest(requirements: Path) -> str:
    """Return a digest of a requirements file and of every file that it includes."""
    content = requirements.read_text()
    parts = [content]
    for line in content.splitlines():
        if line.startswith("-r "):
            parts.append(digest(requirements.parent / line.removeprefix("-r ").strip()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def uv_settings(pip_configuration: str) -> dict[str, str]:
    """Translate what `pip config list` prints into uv's variables, so that both ask the same indexes."""
    names = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS"}
    found = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_SYSTEM_CERTS": "true"}
    for line in pip_configuration.splitlines():
        key, _, value = line.partition("=")
        name = names.get(key.rpartition(".")[2])
        if name:
            separator = "," if name == "UV_FIND_LINKS" else " "
            found[name] = separator.join(value.strip("'\"").replace("\\n", " ").split())
    return found


def _prepare(folder: Path, needs: str) -> None:
    started = time.monotonic()
    with _alone(folder):
        if is_current(folder, needs):
            return
        if not _works(folder):
            _say(f"Making the environment in {_short(folder)} (Python {sys.version.split()[0]}) …")
            _create(folder)
        requirements = REQUIREMENTS[needs]
        _say(f"Installing what {_short(requirements)} names …")
        _install(folder, requirements)
        included = list(REQUIREMENTS) if needs == "tests" else [needs]
        (folder / _STAMP).write_text(json.dumps({name: digest(REQUIREMENTS[name]) for name in included}))
        _say(f"The environment is ready ({time.monotonic() - started:.0f} s).")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock beside *folder*; a second start waits here until the first has finished."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(folder.name + ".lock").open("w")
    except OSError as error:
        raise Problem(
            f"The environment cannot be made in {folder} ({error.strerror}); set INFRA_VENV to a folder that you may write to."
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            _say("Waiting for another start, which is making the environment …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _works(folder: Path) -> bool:
    """Whether there is an environment whose Python starts (after an upgrade of the system's Python it may not)."""
    return (
        _python(folder).exists() and _run([str(_python(folder)), "-c", "import sys; sys.version_info >= (3, 11) or exit(1)"])[0]
    )


def _create(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
        raise Problem(f"{folder} exists and is not a virtual environment; empty it, or set INFRA_VENV to another folder.")
    makers = [[sys.executable, "-m", "venv"], [sys.executable, "-m", "virtualenv"]]
    makers += [[tool, *rest] for name, rest in (("virtualenv", []), ("uv", ["venv"])) if (tool := shutil.which(name))]
    for maker in makers:
        shutil.rmtree(folder, ignore_errors=True)
        interpreter = ["--python", sys.executable] if maker[0] != sys.executable else []
        if _run([*maker, *interpreter, str(folder)])[0] and _python(folder).exists():
            return
    shutil.rmtree(folder, ignore_errors=True)
    raise Problem(
        f"{sys.executable} cannot make a virtual environment (its venv module or pip is missing); "
        "install it and start again, on Debian and Ubuntu with: apt install python3-venv"
    )


def _install(folder: Path, requirements: Path) -> None:
    (folder / _STAMP).unlink(missing_ok=True)
    python = str(_python(folder))
    uv = _find_uv(folder)
    if uv is not None:
        configuration = _run([python, "-m", "pip", "config", "list"])[1]
        variables = {**uv_settings(configuration), **os.environ}
        if _run([uv, "pip", "install", "--python", python, "--compile-bytecode", "-r", str(requirements)], variables)[0]:
            return
    done, printed = _run([python, "-m", "pip", "install", "--disable-pip-version-check", "-r", str(requirements)])
    if not done:
        words = [line for line in printed.strip().splitlines() if "Retrying (" not in line]
        tail = "\n".join(f"    {line}" for line in words[-_TAIL_LINES:])
        raise Problem(
            f"What {_short(requirements)} names could not be installed: no network, or no package for this Python "
            f"({sys.version.split()[0]}, {os.uname().machine}). The installer's last words:\n{tail}"
        )


def _find_uv(folder: Path) -> str | None:
    own = folder / "bin" / "uv"
    if not own.exists():
        _run([str(_python(folder)), "-m", "pip", "install", "--disable-pip-version-check", "-q", UV])
    return str(own) if own.exists() else shutil.which("uv")


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _read_stamp(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / _STAMP).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _run(command: list[str], variables: Mapping[str, str] | None = None) -> tuple[bool, str]:
    """Run an installer's command; returns whether it succeeded, and all that it printed."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=variables,
            check=False,
        )
    except OSError as error:
        return False, str(error)
    return done.returncode == 0, done.stdout


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
