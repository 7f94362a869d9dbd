"""What a task of a millrace DAG needs, and nothing else.

A task is any program: millrace starts it once per attempt, gives it its inputs as a file, keeps what it prints and goes by its exit code
(docs/tasks.md). This package is that contract with types:

    import millrace

    task = millrace.inputs()
    count = sum(1 for row in task.rows() if row.get("type") == "track")
    if count == 0:
        millrace.skip("nothing was tracked")
    millrace.log.info("%d events of %d batches", count, len(task.batches))
    millrace.output({"count": count})

It guarantees that a value that was stored in ``state`` or given to ``output`` is either there in whole or was refused with an error. It talks to
nobody: everything is a file or a variable of the environment. It is not safe for use from several threads at once, except for ``log`` and ``heartbeat``.
"""

from ._contract import Batch, Inputs, NotATask, Run, Trigger, idempotency_key, inputs, settings
from ._log import LineHandler, log
from ._outcome import MAX_OUTPUT, FailWithoutRetry, Skip, fail_without_retry, heartbeat, output, skip
from ._rows import ObjectError, rows
from ._state import State, state

__version__ = "0.1.0"

__all__ = [
    "MAX_OUTPUT",
    "Batch",
    "FailWithoutRetry",
    "Inputs",
    "LineHandler",
    "NotATask",
    "ObjectError",
    "Run",
    "Skip",
    "State",
    "Trigger",
    "fail_without_retry",
    "heartbeat",
    "idempotency_key",
    "inputs",
    "log",
    "output",
    "rows",
    "settings",
    "skip",
    "state",
]
