"""The input document: who this task is, and what it has to work on."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, Iterable, Iterator, Mapping, Optional, Tuple

from ._rows import ObjectError, Opener, open_file, rows

Row = Dict[str, Any]


class NotATask(RuntimeError):
    """This process was not started by millrace, or not with what was asked for."""


def variable(name: str) -> str:
    """Return a variable of the contract; it must be set."""
    value = os.environ.get(name, "")
    if not value:
        raise NotATask(
            f"{name} is not set: this program was not started by millrace. Name it in `run:` of a DAG file, "
            "or try it with millrace.testing.task()"
        )
    return value


def encode(value: Any, what: str) -> str:
    """Return a value as JSON. Raises TypeError or ValueError that says of what it was the value."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except TypeError as error:
        raise TypeError(f"{what} is not JSON: {error}. It may have dicts, lists, str, int, float, bool and None") from error
    except ValueError as error:
        raise ValueError(f"{what} is not JSON: {error}") from error


class _Named(Dict[str, Any]):
    """A dict that says, of a name that it does not have, what can be done about it."""

    def __init__(self, values: Mapping[str, Any], missing: str) -> None:
        super().__init__(values)
        self._missing = missing

    def __missing__(self, name: str) -> Any:
        raise _missing(name, self, self._missing)


def _missing(name: str, names: Iterable[str], text: str) -> KeyError:
    return KeyError(text.format(repr(name)) + "; there is " + (", ".join(sorted(names)) or "nothing"))


_NO_PARAM = "the run has no parameter {}: `params:` of the DAG does not declare it, or it has no default and was not given"
_NO_PARENT = "no task {} comes before this one: name it in `needs:`"
_NO_SETTING = "the task says nothing of {} below `with:`: require it in what `describe` prints, or use .get()"


@dataclass(frozen=True)
class Run:
    """The run that the task belongs to. Times are in UTC; those that the run does not have are None."""

    id: str
    dag: str
    version: str
    created_at: Optional[datetime] = None
    interval_start: Optional[datetime] = None
    interval_end: Optional[datetime] = None
    watermark: Optional[datetime] = None
    #: the run that this one repeats, or ""
    replay_of: str = ""


@dataclass(frozen=True)
class Trigger:
    """What started the run: kind is "batch", "cron" or "manual"."""

    kind: str
    rule: str
    key: str
    #: value of the rule's `key:` expression, or ""
    lane_key: str = ""


@dataclass(frozen=True)
class Batch:
    """One batch: an object with rows."""

    id: str
    uri: str
    tenant: str = ""
    source: str = ""
    #: number of rows
    events: int = 0
    #: size of the object as it is stored
    bytes: int = 0
    #: number of rows by type of event
    types: Mapping[str, int] = field(default_factory=dict)
    #: when the events came in, first and last, and when they happened
    received_min: Optional[datetime] = None
    received_max: Optional[datetime] = None
    event_min: Optional[datetime] = None
    event_max: Optional[datetime] = None
    #: why the batch has no object, or ""
    void: str = ""
    #: the batch as it stands in the input document, with all else that is known of it
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def path(self) -> Optional[str]:
        """The file that has the object, if ``millrace-task --fetch`` has fetched it, or None."""
        directory, key = os.environ.get("MILLRACE_FETCHED", ""), str(self.raw.get("key") or self.id)
        path = os.path.join(directory, key)
        return path if directory and os.path.isfile(path) else None

    def rows(self, open: Optional[Opener] = None) -> Iterator[Row]:
        """Yield the rows of the batch's object, as :func:`millrace.rows` does. Without ``open``, one that was fetched is read from its file.

        Raises ObjectError at the end if the object has another number of rows than the batch: it is not the object that millrace wrote.
        """
        if self.void:
            return
        count = 0
        for row in rows(self.uri if open else self.path or self.uri, open=open):
            count += 1
            yield row
        if self.events and count != self.events:
            raise ObjectError(f"{self.uri}: {count} rows, but batch {self.id} has {self.events}. Run `millrace verify`")


@dataclass(frozen=True)
class Inputs:
    """All that a task is given. Every attempt of the task in this run is given the same, except for try_number."""

    run: Run
    task: str
    trigger: Trigger
    #: oldest first
    batches: Tuple[Batch, ...]
    #: with defaults filled in
    params: Mapping[str, Any]
    #: outputs of the tasks that this one needs, by task; None for one without output. A large one is read when it is asked for
    upstream: Mapping[str, Any]
    #: number of the attempt, from 1
    try_number: int = 1
    #: index of a mapped task, else -1
    map_index: int = -1
    #: the element of a mapped task, else None
    item: Any = None
    #: the document as it stands
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def rows(self, open: Optional[Opener] = None) -> Iterator[Row]:
        """Yield the rows of all batches, one after the other."""
        for batch in self.batches:
            yield from batch.rows(open=open)


def inputs() -> Inputs:
    """Read the inputs of this attempt. Raises NotATask if this process is none.

    A parameter or an output that is not there is a KeyError that says what to do about it.
    """
    path = variable("MILLRACE_INPUT")
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError) as error:
        raise NotATask(f"MILLRACE_INPUT names {path}, which can not be read: {error}. The document is there as long as the attempt runs") from error
    version = document.get("v")
    if version != 1:
        raise NotATask(f"{path} is version {version!r} of the input document, this package reads version 1: update the package")
    return Inputs(
        run=_run(document.get("run") or {}),
        task=document.get("task", ""),
        trigger=_trigger(document.get("trigger") or {}),
        batches=tuple(_batch(raw) for raw in document.get("batches") or ()),
        params=_Named(document.get("params") or {}, _NO_PARAM),
        upstream=_upstream(document),
        try_number=int(os.environ.get("MILLRACE_TRY") or 1),
        map_index=int(os.environ.get("MILLRACE_MAP_INDEX") or -1),
        item=document.get("item"),
        raw=document,
    )


class _Upstream(Mapping[str, Any]):
    """Outputs of which some are files, each of which is read once, when it is asked for."""

    def __init__(self, near: Mapping[str, Any], far: Mapping[str, Mapping[str, Any]]) -> None:
        self._near = dict(near)
        self._far = far

    def __getitem__(self, task: str) -> Any:
        if task not in self._near and task not in self._far:
            raise _missing(task, self, _NO_PARENT)
        if task not in self._near:
            ref = self._far[task]
            with open_file(ref.get("path") or ref.get("uri", "")) as file:
                self._near[task] = json.load(file)
        return self._near[task]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._near, *self._far]))

    def __len__(self) -> int:
        return len({*self._near, *self._far})

    def __repr__(self) -> str:
        return f"<outputs of {', '.join(self)}>"


def _upstream(document: Mapping[str, Any]) -> Mapping[str, Any]:
    near, far = document.get("upstream") or {}, document.get("upstream_refs") or {}
    return _Upstream(near, far) if far else _Named(near, _NO_PARENT)


def idempotency_key() -> str:
    """Return the key that all attempts of this task in this run share: an effect elsewhere that is named by it happens once."""
    return variable("MILLRACE_IDEMPOTENCY_KEY")


def _run(raw: Mapping[str, Any]) -> Run:
    return Run(
        id=raw.get("id", ""),
        dag=raw.get("dag", ""),
        version=raw.get("version", ""),
        created_at=_time(raw.get("created_at")),
        interval_start=_time(raw.get("interval_start")),
        interval_end=_time(raw.get("interval_end")),
        watermark=_time(raw.get("watermark")),
        replay_of=raw.get("replay_of", ""),
    )


def _trigger(raw: Mapping[str, Any]) -> Trigger:
    return Trigger(kind=raw.get("kind", ""), rule=raw.get("rule", ""), key=raw.get("key", ""), lane_key=raw.get("lane_key", ""))


def _batch(raw: Mapping[str, Any]) -> Batch:
    return Batch(
        id=raw["id"],
        uri=raw.get("uri", ""),
        tenant=raw.get("tenant", ""),
        source=raw.get("source", ""),
        events=raw.get("events", 0),
        bytes=raw.get("bytes", 0),
        types=raw.get("types") or {},
        received_min=_time(raw.get("received_min")),
        received_max=_time(raw.get("received_max")),
        event_min=_time(raw.get("event_min")),
        event_max=_time(raw.get("event_max")),
        void=raw.get("void", ""),
        raw=raw,
    )


_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))")


def _time(text: Optional[str]) -> Optional[datetime]:
    """Read RFC 3339 with any number of digits; datetime keeps six of them, and before Python 3.11 reads no "Z"."""
    match = _RFC3339.fullmatch(text or "")
    if not match:
        return None
    day, clock, fraction, sign, hours, minutes = match.groups()
    at = datetime.fromisoformat(f"{day}T{clock}").replace(microsecond=int((fraction or "0")[:6].ljust(6, "0")), tzinfo=timezone.utc)
    if sign:
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        at -= offset if sign == "+" else -offset
    return at


def settings() -> Dict[str, Any]:
    """Return what a DAG file says below ``with:``, for an operator that a task uses. A text that was one expression has its value's type.

    Raises NotATask if this process is not that of an operator. A setting that is not there is a KeyError that says what to do about it.
    """
    text = os.environ.get("MILLRACE_OPERATOR", "")
    if not text:
        raise NotATask("MILLRACE_OPERATOR is not set: this is no task that has `use:`. Try an operator with millrace.testing.task(settings={…})")
    try:
        envelope = json.loads(text)
    except ValueError as error:
        raise NotATask(f"MILLRACE_OPERATOR is not JSON: {error}") from error
    if not isinstance(envelope, dict) or envelope.get("v") != 1:
        version = envelope.get("v") if isinstance(envelope, dict) else None
        raise NotATask(f"MILLRACE_OPERATOR is version {version!r}, this package reads version 1: update the package")
    if not isinstance(envelope.get("with"), dict):
        raise NotATask("MILLRACE_OPERATOR has no settings: this task has another operator than `use:`")
    return _Named(envelope["with"], _NO_SETTING)
