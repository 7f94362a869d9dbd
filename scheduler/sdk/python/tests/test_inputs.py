"""Inputs, rows and what is said when they are not there."""

from __future__ import annotations

import gzip
import io
import json
import os
import tempfile
import unittest
from datetime import datetime, timezone
from unittest import mock

import millrace
import millrace.testing
from millrace._contract import _time


class InputsTest(unittest.TestCase):
    def test_document(self) -> None:
        rows = [{"type": "track", "n": i} for i in range(3)]
        with millrace.testing.task(rows=rows, params={"day": "today"}, upstream={"extract": {"rows": 3}}, try_number=2):
            task = millrace.inputs()
            self.assertEqual(list(task.rows()), rows)
            self.assertEqual(millrace.idempotency_key(), "rtest/task")
        self.assertEqual((task.run.id, task.run.dag, task.task, task.try_number, task.map_index), ("rtest", "test", "task", 2, -1))
        self.assertEqual((task.params, task.upstream), ({"day": "today"}, {"extract": {"rows": 3}}))
        self.assertEqual(task.run.created_at, datetime(2026, 1, 1, tzinfo=timezone.utc))
        self.assertEqual((len(task.batches), task.batches[0].events, task.raw["totals"]["events"]), (1, 3, 3))

    def test_large_outputs(self) -> None:
        with tempfile.TemporaryDirectory() as directory, millrace.testing.task(upstream={"small": 1}) as sandbox:
            path = os.path.join(directory, "large.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(["x"] * 3, file)
            name = os.path.join(sandbox.directory, "input.json")
            with open(name, encoding="utf-8") as file:
                document = json.load(file)
            document["upstream_refs"] = {
                "large": {"ref": "k", "bytes": 9, "uri": "s3://b/k", "path": path},
                "file": {"ref": "k", "bytes": 9, "uri": "file://" + path},
                "far": {"ref": "k", "bytes": 9, "uri": "s3://b/k"},
            }
            with open(name, "w", encoding="utf-8") as file:
                json.dump(document, file)
            upstream = millrace.inputs().upstream
            self.assertEqual((upstream["small"], upstream["large"], upstream["file"]), (1, ["x"] * 3, ["x"] * 3))
            self.assertEqual(sorted(upstream), ["far", "file", "large", "small"])
            self.assertEqual(len(upstream), 4)
            with self.assertRaisesRegex(millrace.ObjectError, "s3://b/k: this package opens files only"):
                upstream["far"]
            with self.assertRaises(KeyError):
                upstream["none"]

    def test_what_is_not_there_is_said(self) -> None:
        with millrace.testing.task(params={"day": "today"}, settings={"table": "t"}):
            task = millrace.inputs()
            for look, text in (
                (lambda: task.params["dya"], "no parameter 'dya': .*does not declare it.*; there is day"),
                (lambda: task.upstream["extract"], "no task 'extract' comes before this one: name it in `needs:`; there is nothing"),
                (lambda: millrace.settings()["rows"], "nothing of 'rows' below `with:`"),
            ):
                with self.assertRaisesRegex(KeyError, text):
                    look()
            self.assertEqual((task.params.get("dya", 1), "extract" in task.upstream), (1, False))
            self.assertEqual(json.dumps([task.params, task.upstream]), '[{"day": "today"}, {}]')

    def test_element_of_a_mapped_task(self) -> None:
        with millrace.testing.task(item={"uri": "u"}, map_index=3):
            task = millrace.inputs()
            self.assertEqual((task.item, task.map_index), ({"uri": "u"}, 3))
        with millrace.testing.task(item="a"):
            self.assertEqual(millrace.inputs().map_index, 0)
        with millrace.testing.task():
            self.assertEqual((millrace.inputs().item, millrace.inputs().map_index), (None, -1))

    def test_a_document_that_can_not_be_read(self) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file, mock.patch.dict(os.environ, MILLRACE_INPUT=file.name):
            with self.assertRaisesRegex(millrace.NotATask, "can not be read: Expecting value"):
                millrace.inputs()
        with mock.patch.dict(os.environ, MILLRACE_INPUT="/none"), self.assertRaisesRegex(millrace.NotATask, "names /none"):
            millrace.inputs()

    def test_outside_of_millrace(self) -> None:
        with mock.patch.dict(os.environ):
            for name in [n for n in os.environ if n.startswith("MILLRACE_")]:
                del os.environ[name]
            for call in (millrace.inputs, millrace.idempotency_key, lambda: millrace.output(1), lambda: "x" in millrace.state):
                with self.assertRaisesRegex(millrace.NotATask, "not started by millrace"):
                    call()
            millrace.heartbeat()  # a no-op where nobody listens

    def test_another_version_of_the_document(self) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"v": 2}, file)
            file.flush()
            with mock.patch.dict(os.environ, MILLRACE_INPUT=file.name), self.assertRaisesRegex(millrace.NotATask, "update the package"):
                millrace.inputs()

    def test_batch(self) -> None:
        raw = {"id": "b", "void": "why", "event_min": "2026-11-23T16:00:05Z", "received_max": "2026-11-23T16:00:06Z"}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"v": 1, "batches": [raw]}, file)
            file.flush()
            with mock.patch.dict(os.environ, MILLRACE_INPUT=file.name):
                batch = millrace.inputs().batches[0]
        self.assertEqual(batch.event_min, datetime(2026, 11, 23, 16, 0, 5, tzinfo=timezone.utc))
        self.assertEqual((batch.received_max, batch.received_min), (datetime(2026, 11, 23, 16, 0, 6, tzinfo=timezone.utc), None))
        self.assertEqual((batch.void, list(batch.rows())), ("why", []))

    def test_times(self) -> None:
        want = datetime(2026, 11, 23, 16, 0, 5, 123456, tzinfo=timezone.utc)
        for text in ("2026-11-23T16:00:05.123456789Z", "2026-11-23T17:00:05.123456+01:00", "2026-11-23T12:30:05.123456-03:30"):
            self.assertEqual(_time(text), want, text)
        self.assertEqual(_time("2026-11-23T16:00:05.1Z"), want.replace(microsecond=100000))
        self.assertIsNone(_time(None))


class SettingsTest(unittest.TestCase):
    def test_what_stands_below_with(self) -> None:
        with millrace.testing.task(settings={"table": "orders", "rows": 5}):
            self.assertEqual(millrace.settings(), {"table": "orders", "rows": 5})

    def test_what_is_none(self) -> None:
        for text, says in {
            "": "not set: this is no task that has `use:`",
            '{"v": 2, "with": {}}': "is version 2, .* update the package",
            '{"v": 1, "http": {}}': "has no settings",
            "[]": "is version None",
            "{": "is not JSON",
        }.items():
            with self.subTest(text), millrace.testing.task(MILLRACE_OPERATOR=text), self.assertRaisesRegex(millrace.NotATask, says):
                millrace.settings()


class RowsTest(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(prefix="rows 100% ")
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def object(self, data: bytes, name: str = "o.ndjson.gz") -> str:
        path = os.path.join(self.directory, name)
        with open(path, "wb") as file:
            file.write(data)
        return path

    def test_path_and_uri(self) -> None:
        path = self.object(gzip.compress(b'{"a":1}\n') + gzip.compress(b'{"a":2}\n'))
        for uri in (path, "file://" + path.replace("%", "%25").replace(" ", "%20")):
            self.assertEqual(list(millrace.rows(uri)), [{"a": 1}, {"a": 2}])

    def test_an_opener_of_ones_own(self) -> None:
        opened = []

        def opener(uri: str) -> io.BytesIO:
            opened.append(uri)
            return io.BytesIO(gzip.compress(b'{"a":1}\n'))

        self.assertEqual(list(millrace.rows("s3://bucket/o.ndjson.gz", open=opener)), [{"a": 1}])
        self.assertEqual(opened, ["s3://bucket/o.ndjson.gz"])

    def test_errors_say_what_to_do(self) -> None:
        whole = gzip.compress(b'{"a":1}\n' * 1000)
        for uri, text in {
            "s3://bucket/o.ndjson.gz": "rows.open=",
            "file://elsewhere/o.ndjson.gz": "another machine, elsewhere",
            os.path.join(self.directory, "none.ndjson.gz"): "No such file.*directory there",
            self.object(whole[:-9], "cut.ndjson.gz"): "millrace verify",
            self.object(whole[:40] + b"\xff" * 20, "damaged.ndjson.gz"): "millrace verify",
            self.object(gzip.compress(b'{"a":1}\nnot json\n'), "text.ndjson.gz"): "after 1 good rows",
        }.items():
            with self.subTest(uri), self.assertRaisesRegex(millrace.ObjectError, text):
                list(millrace.rows(uri))

    def test_zstd_is_read_or_refused_with_the_remedy(self) -> None:
        uri = self.object(b"", "o.ndjson.zst")
        with mock.patch.dict("sys.modules", {"compression": None, "compression.zstd": None, "zstandard": None}):
            with self.assertRaisesRegex(millrace.ObjectError, "compression: gzip"):
                list(millrace.rows(uri))

    def test_the_object_has_the_rows_of_its_batch(self) -> None:
        path = self.object(gzip.compress(b'{"a":1}\n'))
        self.assertEqual(len(list(millrace.Batch(id="b", uri=path, events=1).rows())), 1)
        with self.assertRaisesRegex(millrace.ObjectError, "1 rows, but batch b has 2"):
            list(millrace.Batch(id="b", uri=path, events=2).rows())
        self.assertEqual(list(millrace.Batch(id="b", uri="gone", void="why").rows()), [])

    def test_an_object_that_was_fetched_is_read_from_its_file(self) -> None:
        path = self.object(gzip.compress(b'{"a":1}\n'))
        batch = millrace.Batch(id="b", uri="s3://b/k", events=1, raw={"key": os.path.basename(path)})
        with mock.patch.dict(os.environ, {"MILLRACE_FETCHED": os.path.dirname(path)}):
            self.assertEqual((batch.path, list(batch.rows())), (path, [{"a": 1}]))
            self.assertEqual(list(batch.rows(open=lambda uri: io.BytesIO(uri.encode()[:0] + b'{"a":2}\n'))), [{"a": 2}])
            other = millrace.Batch(id="b", uri="s3://b/k", raw={"key": "k"})
            self.assertIsNone(other.path)
            with self.assertRaisesRegex(millrace.ObjectError, "opens files only"):
                list(other.rows())
        self.assertIsNone(batch.path)


if __name__ == "__main__":
    unittest.main()
