"""Tries a task without a server: ``task()`` sets up what millrace would, in a directory that goes away again.

    def test_counts(self):
        with millrace.testing.task(rows=[{"type": "track"}], params={"day": "2026-11-23"}) as sandbox:
            count.main()
        self.assertEqual(sandbox.output, {"count": 1})
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import tempfile
from typing import Any, Dict, Iterable, Iterator, Mapping, Optional
from unittest import mock


class Sandbox:
    """What a task has left behind. It can be read within the ``with`` and after it."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        #: what the task gave to ``output``, or None
        self.output: Any = None
        #: what the task has in ``state``
        self.state: Dict[str, Any] = {}

    def read(self) -> None:
        """Bring ``output`` and ``state`` up to date."""
        with open(os.path.join(self.directory, "output.json"), "rb") as file:
            data = file.read()
        self.output = json.loads(data) if data else None
        from ._state import state

        self.state = dict(state)


@contextlib.contextmanager
def task(
    rows: Optional[Iterable[Mapping[str, Any]]] = None,
    params: Optional[Mapping[str, Any]] = None,
    upstream: Optional[Mapping[str, Any]] = None,
    state: Optional[Mapping[str, Any]] = None,
    task_id: str = "task",
    try_number: int = 1,
    item: Any = None,
    map_index: int = -1,
    settings: Optional[Mapping[str, Any]] = None,
    **variables: str,
) -> Iterator[Sandbox]:
    """Make this process an attempt of a task: one batch with ``rows``, if there are any, and ``state`` as an earlier try has left it.

    ``item`` is the element of a mapped task, ``settings`` what stands below ``with:`` for an operator; ``variables`` are set in the environment as well.
    """
    with tempfile.TemporaryDirectory() as directory:
        batches = [] if rows is None else [_batch(directory, list(rows))]
        document = {
            "v": 1,
            "run": {"id": "rtest", "dag": "test", "version": "0", "created_at": "2026-01-01T00:00:00Z"},
            "task": task_id,
            "trigger": {"kind": "manual", "rule": "", "key": "test"},
            "batches": batches,
            "totals": {"batches": len(batches), "events": sum(b["events"] for b in batches), "bytes": sum(b["bytes"] for b in batches)},
            "params": dict(params or {}),
            "upstream": dict(upstream or {}),
        }
        if item is not None or map_index >= 0:
            document["item"], map_index = item, max(map_index, 0)
        if settings is not None:
            variables.setdefault("MILLRACE_OPERATOR", json.dumps({"v": 1, "use": task_id, "with": dict(settings)}))
        with open(os.path.join(directory, "input.json"), "w", encoding="utf-8") as file:
            json.dump(document, file)
        with open(os.path.join(directory, "output.json"), "wb"):
            pass
        environment = {
            "MILLRACE_RUN_ID": "rtest",
            "MILLRACE_TASK_ID": task_id,
            "MILLRACE_DAG_ID": "test",
            "MILLRACE_DAG_VERSION": "0",
            "MILLRACE_MAP_INDEX": str(map_index),
            "MILLRACE_TRY": str(try_number),
            "MILLRACE_INPUT": os.path.join(directory, "input.json"),
            "MILLRACE_OUTPUT": os.path.join(directory, "output.json"),
            "MILLRACE_STATE": os.path.join(directory, "state"),
            "MILLRACE_HEARTBEAT": os.path.join(directory, "heartbeat"),
            "MILLRACE_IDEMPOTENCY_KEY": f"rtest/{task_id}",
            **variables,
        }
        sandbox = Sandbox(directory)
        with mock.patch.dict(os.environ, environment):
            from ._state import state as store

            store.update(state or {})
            try:
                yield sandbox
            finally:
                sandbox.read()


def _batch(directory: str, rows: "list[Mapping[str, Any]]") -> Dict[str, Any]:
    path = os.path.join(directory, "batch.ndjson.gz")
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
    return {"id": "btest", "uri": "file://" + path, "source": "test", "events": len(rows), "bytes": os.path.getsize(path)}
