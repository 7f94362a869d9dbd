"""The rows of an object: compressed NDJSON."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import IO, Any, Callable, Dict, Iterator, Optional
from urllib.parse import unquote, urlsplit

#: Opener opens a URI and returns the object's bytes as they are stored: still compressed.
Opener = Callable[[str], IO[bytes]]


class ObjectError(RuntimeError):
    """An object can not be read. The text says what to do."""


def rows(uri: str, open: Optional[Opener] = None) -> Iterator[Dict[str, Any]]:
    """Yield the rows of an object, one after the other; memory holds one of them.

    Without ``open``, ``uri`` is a path or a file:// URI. Objects elsewhere need a function that opens them, of whichever client is installed:

        fs = s3fs.S3FileSystem()
        for row in batch.rows(open=fs.open): ...

    Raises ObjectError if it can not be read, or if a line is not JSON.
    """
    with (open or open_file)(uri) as stored, _decompressed(uri, stored) as plain:
        good = 0
        try:
            for line in plain:
                row = json.loads(line)
                good += 1
                yield row
        except (EOFError, ValueError, gzip.BadGzipFile, zlib.error) as error:
            raise ObjectError(f"{uri}: after {good} good rows: {error}. Run `millrace verify`") from error


def open_file(uri: str) -> IO[bytes]:
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        raise ObjectError(
            f"{uri}: this package opens files only. Give a function that opens {parts.scheme}:// with the client that you have, "
            f"such as rows(open=…); for S3, s3fs.S3FileSystem().open, or "
            'lambda uri: boto3.client("s3").get_object(Bucket=…, Key=…)["Body"]'
        )
    if parts.scheme == "file" and parts.netloc not in ("", "localhost"):
        raise ObjectError(f"{uri}: names another machine, {parts.netloc}. Run the task where the objects are, or use an object store")
    path = unquote(parts.path) if parts.scheme else uri
    try:
        return open(path, "rb")
    except OSError as error:
        raise ObjectError(f"{uri}: {error.strerror}. Is the object store's directory there, and may this user read it?") from error


def _decompressed(uri: str, stored: IO[bytes]) -> IO[bytes]:
    path = urlsplit(uri).path
    if path.endswith(".gz"):
        return gzip.open(stored, "rb")  # type: ignore[return-value]
    if path.endswith(".zst"):
        return _zstd(uri, stored)
    return stored


def _zstd(uri: str, stored: IO[bytes]) -> IO[bytes]:
    try:
        from compression import zstd  # Python 3.14

        return zstd.open(stored, "rb")  # type: ignore[no-any-return]
    except ImportError:
        pass
    try:
        import zstandard  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise ObjectError(
            f"{uri}: zstd needs Python 3.14, or `pip install zstandard`; or set `batch: {{compression: gzip}}` in millrace.yaml"
        ) from None
    return zstandard.open(stored, "rb")  # type: ignore[no-any-return]
