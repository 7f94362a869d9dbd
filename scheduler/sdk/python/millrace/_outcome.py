"""What a task says: its output, how it ended, and that it lives."""

from __future__ import annotations

import os
import time
from typing import Any, Dict, NoReturn

from ._contract import encode, variable
from ._log import log

#: The most that ``output`` takes, in bytes of JSON. What is above 64 KiB goes through the object store.
MAX_OUTPUT = 64 << 20

_EXIT_SKIP = 99
_EXIT_NO_RETRY = 64


class Skip(SystemExit):
    """Ends the task as skipped. It is no Exception, so that ``except Exception`` does not swallow it."""


class FailWithoutRetry(SystemExit):
    """Ends the task as failed for good."""


def output(value: Any) -> None:
    """Set the result of the task, which tasks that need this one find under its name in ``inputs().upstream``. The last call counts.

    Raises TypeError or ValueError if the value is not JSON, or larger than MAX_OUTPUT.
    """
    data = encode(value, "the output").encode("utf-8")
    if len(data) > MAX_OUTPUT:
        raise ValueError(f"the output has {len(data)} bytes, the limit is {MAX_OUTPUT}: write it to an object and output its address")
    # In place: millrace reads this very file.
    with open(variable("MILLRACE_OUTPUT"), "wb") as file:
        file.write(data)


def skip(reason: str = "") -> NoReturn:
    """End the task: there is nothing to do. It is skipped, and so are tasks that need it, as their join rule says."""
    log.info("skipped: %s", reason or "nothing to do")
    raise Skip(_EXIT_SKIP)


def fail_without_retry(reason: str) -> NoReturn:
    """End the task as failed, and do not try again whatever ``retry:`` says."""
    log.error("failed, and not to be tried again: %s", reason)
    raise FailWithoutRetry(_EXIT_NO_RETRY)


#: A beat costs a write; a loop may call heartbeat for each row.
_BEAT_EVERY = 0.2

_beats: Dict[str, float] = {}


def heartbeat() -> None:
    """Say that the task makes progress. Without ``timeout.heartbeat`` in the DAG file nobody listens, and nothing is done."""
    path = os.environ.get("MILLRACE_HEARTBEAT")
    now = time.monotonic()
    if not path or now - _beats.get(path, -_BEAT_EVERY) < _BEAT_EVERY:
        return
    _beats[path] = now
    with open(path, "w", encoding="ascii") as file:
        file.write(f"{time.time():.6f}\n")
