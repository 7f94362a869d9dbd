"""Output, exit codes, heartbeat, log lines and state."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
import unittest
from unittest import mock

import millrace
import millrace.testing


class OutputTest(unittest.TestCase):
    def test_the_last_one_counts(self) -> None:
        with millrace.testing.task() as sandbox:
            millrace.output({"rows": 1, "name": "ö" * 100})
            millrace.output([2])
        self.assertEqual(sandbox.output, [2])

    def test_what_can_not_be_one(self) -> None:
        with millrace.testing.task() as sandbox:
            millrace.output("kept")
            for value, error, text in (
                (float("nan"), ValueError, "the output is not JSON"),
                ({"at": object()}, TypeError, "the output is not JSON: Object of type object"),
                ("x" * millrace.MAX_OUTPUT, ValueError, "write it to an object"),
            ):
                with self.assertRaisesRegex(error, text):
                    millrace.output(value)
            millrace.output("x" * (millrace.MAX_OUTPUT - 2))
        self.assertEqual(len(sandbox.output), millrace.MAX_OUTPUT - 2)


class ExitTest(unittest.TestCase):
    def exit_of(self, program: str) -> "tuple[int, str]":
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run([sys.executable, "-c", "import millrace\n" + program], env=env, stdout=subprocess.PIPE, check=False)
        return done.returncode, done.stdout.decode()

    def test_codes(self) -> None:
        for program, code, text in (
            ("millrace.skip('no rows')", 99, "skipped: no rows"),
            ("millrace.fail_without_retry('no such table')", 64, "no such table"),
            ("try:\n    millrace.skip()\nexcept Exception:\n    pass", 99, "nothing to do"),
            ("raise KeyError(1)", 1, ""),
            ("millrace.log.info('done')", 0, "done"),
        ):
            with self.subTest(program):
                got, said = self.exit_of(program)
                self.assertEqual(got, code)
                self.assertIn(text, said)


class HeartbeatTest(unittest.TestCase):
    def test_changes_the_file(self) -> None:
        with millrace.testing.task():
            path = os.environ["MILLRACE_HEARTBEAT"]
            with mock.patch("time.monotonic", side_effect=[10.0, 10.1, 10.3]):
                millrace.heartbeat()
                with open(path, encoding="ascii") as file:
                    first = file.read()
                os.truncate(path, 0)
                millrace.heartbeat()  # too soon to be worth a write
                self.assertEqual(os.path.getsize(path), 0)
                millrace.heartbeat()
            self.assertGreater(os.path.getsize(path), 0)
        self.assertGreater(float(first), 0)


class LogTest(unittest.TestCase):
    def said(self, say: "object") -> "list[str]":
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            say()  # type: ignore[operator]
        return out.getvalue().splitlines()

    def test_a_record_is_a_line(self) -> None:
        lines = self.said(lambda: millrace.log.warning("two\nlines of %s", "text"))
        self.assertEqual(len(lines), 1)
        self.assertRegex(lines[0], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING two\\nlines of text$")

    def test_a_traceback_follows(self) -> None:
        def say() -> None:
            try:
                raise KeyError("k")
            except KeyError:
                millrace.log.exception("went wrong")

        lines = self.said(say)
        self.assertRegex(lines[0], "ERROR went wrong$")
        self.assertEqual(lines[-1], "KeyError: 'k'")

    def test_other_loggers_can_use_the_handler(self) -> None:
        logger = logging.Logger("other")
        logger.addHandler(millrace.LineHandler())
        self.assertRegex(self.said(lambda: logger.error("x"))[0], "ERROR x$")


class StateTest(unittest.TestCase):
    def test_is_a_dict_that_survives(self) -> None:
        with millrace.testing.task(state={"job": {"id": 7}}, try_number=2) as sandbox:
            self.assertEqual(dict(millrace.state), {"job": {"id": 7}})
            millrace.state["offset"] = 12
            millrace.state["offset"] = 13
            self.assertEqual(millrace.State()["offset"], 13, "another reader")
            del millrace.state["job"]
            self.assertNotIn("job", millrace.state)
            self.assertEqual(millrace.state.get("job", "none"), "none")
            with self.assertRaises(KeyError):
                del millrace.state["job"]
            names = os.listdir(os.environ["MILLRACE_STATE"])
        self.assertEqual(names, ["offset.json"], "nothing temporary is left")
        self.assertEqual(sandbox.state, {"offset": 13})

    def test_costs_nothing_unused(self) -> None:
        with millrace.testing.task():
            self.assertEqual((len(millrace.state), list(millrace.state)), (0, []))
            self.assertFalse(os.path.exists(os.environ["MILLRACE_STATE"]))

    def test_a_refused_value_leaves_the_old_one(self) -> None:
        with millrace.testing.task(state={"a": 1}):
            for value in (float("inf"), object()):
                with self.assertRaisesRegex((ValueError, TypeError), r"state\['a'\] is not JSON"):
                    millrace.state["a"] = value
            self.assertEqual(json.loads(json.dumps(dict(millrace.state))), {"a": 1})

    def test_keys_are_no_paths(self) -> None:
        with millrace.testing.task():
            for key in ("", "../x", ".hidden", "a/b", "a\n", "x" * 101, 3):
                with self.subTest(key), self.assertRaises(ValueError):
                    millrace.state[key] = 1  # type: ignore[index]


if __name__ == "__main__":
    unittest.main()
