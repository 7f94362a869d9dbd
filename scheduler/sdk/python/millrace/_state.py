"""State: what a task remembers from one try to the next."""

from __future__ import annotations

import json
import os
import re
from typing import Any, Iterator, List, MutableMapping

from ._contract import encode, variable

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SUFFIX = ".json"


class State(MutableMapping[str, Any]):
    """Values by key that survive the tries of this task in this run: a dict of JSON, each value a synced file below MILLRACE_STATE.

    It is for what a next try has to know, such as the id of a job that was submitted:

        if "job" not in millrace.state:
            millrace.state["job"] = submit(idempotency_key=millrace.idempotency_key())
        wait_for(millrace.state["job"])

    Between the submission and the line that notes it the machine may stop: that is what the idempotency key is for.
    A key has at most 100 letters, digits, ".", "_" and "-", and starts with a letter or a digit.
    """

    def __getitem__(self, key: str) -> Any:
        try:
            with open(self._path(key), encoding="utf-8") as file:
                return json.load(file)
        except FileNotFoundError:
            raise KeyError(key) from None

    def __setitem__(self, key: str, value: Any) -> None:
        path = self._path(key)
        data = encode(value, f"state[{key!r}]").encode("utf-8")
        directory = os.path.dirname(path)
        os.makedirs(directory, mode=0o750, exist_ok=True)
        temporary = os.path.join(directory, f".{key}.{os.getpid()}")
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_directory(directory)

    def __delitem__(self, key: str) -> None:
        path = self._path(key)
        try:
            os.remove(path)
        except FileNotFoundError:
            raise KeyError(key) from None
        _sync_directory(os.path.dirname(path))

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys())

    def __len__(self) -> int:
        return len(self._keys())

    def _keys(self) -> List[str]:
        try:
            names = os.listdir(variable("MILLRACE_STATE"))
        except FileNotFoundError:
            return []
        keys = (name[: -len(_SUFFIX)] for name in names if name.endswith(_SUFFIX))
        return sorted(key for key in keys if _KEY.fullmatch(key))

    def _path(self, key: str) -> str:
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise ValueError(f"key {key!r} must start with a letter or a digit and have at most 100 letters, digits, '.', '_' and '-'")
        return os.path.join(variable("MILLRACE_STATE"), key + _SUFFIX)


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


#: The state of this task in this run.
state = State()
