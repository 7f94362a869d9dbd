"""Log lines: standard output of a task is its log."""

from __future__ import annotations

import logging
import sys
import time


class LineHandler(logging.Handler):
    """Writes each record to standard output as one line, flushed at once, so that a task that is killed has said what it said.

    A traceback follows on lines of its own. ``logging.basicConfig(handlers=[millrace.LineHandler()])`` has all libraries log this way.
    """

    def __init__(self) -> None:
        super().__init__()
        formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(oneline)s", "%Y-%m-%dT%H:%M:%S")
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, whatever standard output is at this moment."""
        try:
            record.oneline = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
            sys.stdout.write(self.format(record) + "\n")
            sys.stdout.flush()
        except Exception:  # As logging asks for: a line that can not be written does not end the task.
            self.handleError(record)


def _logger() -> logging.Logger:
    logger = logging.getLogger("millrace.task")
    logger.addHandler(LineHandler())
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger


#: The log of the task.
log = _logger()
