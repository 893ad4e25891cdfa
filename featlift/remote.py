"""What is behind a URL: ``s3://``, ``https://`` and whatever else fsspec knows. Errors come in one line."""

from __future__ import annotations

import errno
import io
import posixpath
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import quote, unquote

from featlift.errors import AccessError, FeatliftError, RemoteError
from featlift.names import stays_below

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
_WEB = ("http", "https")
_BUCKETS = ("s3:", "s3a:", "gs:", "gcs:")
_WITHOUT_QUERY = (*_BUCKETS, "memory:")  # where "?" and "#" belong to a name
_ONLY_A_HOST = re.compile(r"(\[[^]]*\]|[^:@]*)(:\d*)?|arn:.*")
_EXTRAS = {"s3": "s3", "s3a": "s3", **dict.fromkeys(_WEB, "https")}  # of featlift, by scheme
_BLOCK = 1 << 16  # bytes asked for at once where a file is not fetched whole
_PATIENCE = 60  # seconds without a byte from a web server


def parse_location(place: str | Path | Remote) -> Path | Remote:
    """A path of this machine, which ``file://`` gives too, or what is behind a URL."""
    found = _URL.fullmatch(place) if isinstance(place, str) else None
    if found is None:
        return place if isinstance(place, Remote) else Path(place)
    scheme, rest = found.groups()
    return Path(unquote(rest.removeprefix("localhost"))) if scheme.lower() == "file" else Remote(str(place))


@dataclass(frozen=True)
class Stamp:
    """What tells a version of a file from another without reading it.

    Attributes:
        bytes: its size, None where a web server does not say.
        mtime_ns: when it was last changed, 0 if unknown.
        version: its ETag, or what else changes with its content; None if nothing is known to.
    """

    bytes: int | None
    mtime_ns: int = 0
    version: str | None = None

    @classmethod
    def joined(cls, stamps: Sequence[Stamp]) -> Stamp:
        """Of several files: their size together, the latest change, all versions."""
        sizes = [stamp.bytes for stamp in stamps]
        versions = [stamp.version for stamp in stamps]
        return cls(
            None if None in sizes else sum(cast(list[int], sizes)),
            max((stamp.mtime_ns for stamp in stamps), default=0),
            None if None in versions else _one_version(cast(list[str], versions)),
        )


@dataclass(frozen=True, repr=False)
class Remote:
    """A file, or all that is below a prefix, behind a URL. As text it shows neither credentials nor a query.

    Attributes:
        url: the whole of it.
        stamp: what a listing said of its content, if there was one.
    """

    url: str
    stamp: Stamp | None = field(default=None, compare=False)

    def __str__(self) -> str:
        scheme, _, rest = self.url.partition("://")
        if self._has_user:  # up to the last "@", because a password may hold "/", "?" and "@"
            rest = self._shown(rest.partition("@")[2]).rpartition("@")[2]
        return f"{scheme}://{self._shown(rest)}".rstrip("/")

    __repr__ = __str__

    def __truediv__(self, name: str) -> Remote:
        """What is below."""
        return Remote(f"{self._without_query}/{name}")

    @property
    def is_web(self) -> bool:
        """Whether a web server has it, which lists no folders."""
        return self.url.lower().startswith(tuple(f"{scheme}:" for scheme in _WEB))

    @property
    def name(self) -> str:
        """The last part of its path; of an encoded one what can be told and stays below a folder."""
        path = self.url.partition("://")[2].partition("/")[2]
        name = posixpath.basename(self._shown(path).rstrip("/")) or posixpath.basename(str(self))
        if not self.is_web:
            return name
        parts = [part for part in re.split(r"[/\\]", unquote(name)) if part.strip(".")]
        return "".join(letter if letter.isprintable() else "_" for letter in "/".join(parts))

    @property
    def suffix(self) -> str:
        """The end of its name, from the last dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> Remote:
        """What it is below."""
        return Remote(posixpath.dirname(self._without_query))

    def _shown(self, path: str) -> str:
        """What of its path may be shown: no query, which can be a signature."""
        return path if self.url.lower().startswith(_WITHOUT_QUERY) else re.split("[?#]", path)[0]

    @property
    def _has_user(self) -> bool:
        """Whether a user, and perhaps a password, stand before the host."""
        rest = self.url.partition("://")[2]
        return "@" in rest and not _ONLY_A_HOST.fullmatch(rest.partition("/")[0])

    @property
    def _without_query(self) -> str:
        return (re.split("[?#]", self.url)[0] if self.is_web else self.url).rstrip("/")

    @contextmanager
    def filesystem(self) -> Iterator[tuple[Any, str]]:
        """The fsspec file system that it is on, and its path there.

        Raises:
            FileNotFoundError: in this context: no such bucket or key.
            AccessError: access is denied, there are no credentials, or they stand in the URL of a bucket.
            RemoteError: it cannot be reached, is no URL, or a package is missing.
        """
        self._check()
        try:
            import fsspec

            options: dict[str, Any] = {"use_listings_cache": False}
            if self.is_web:
                options["client_kwargs"] = _client()
            yield fsspec.core.url_to_fs(self.url, **options)
        except (FeatliftError, MemoryError, FileExistsError):
            raise
        except ImportError as error:
            extra = _EXTRAS.get(self.url.partition("://")[0].lower())
            remedy = f"pip install 'featlift[{extra}]'" if extra else "install the package that fsspec has for it"
            raise RemoteError(f"{self}: its kind of URL needs another package: {remedy}") from error
        except Exception as error:  # each back end has its own kinds
            raise self.in_one_line(error) from error

    def _check(self) -> None:
        """Refuse what libraries would take for something else, and then tell all of."""
        if "::" in self.url:
            raise RemoteError(f"{self}: two URLs in one (::), which is not followed: give that of the file")
        if self._has_user and self.url.lower().startswith(_BUCKETS):
            raise AccessError(
                f"{self}: credentials in the URL of a bucket, which ends up in logs: take them out and set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )
        if self.is_web and self._has_user and "@" not in re.split("[/?#]", self.url.partition("://")[2])[0]:
            raise RemoteError(f"{self}: no URL: write a password's / as %2F, its ? as %3F and its # as %23")

    def in_one_line(self, error: Exception) -> OSError:
        """What a back end raised as one of ours, see `filesystem`."""
        if self.is_web and isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
            error = error.__cause__  # fsspec says so of whatever went wrong
        status = getattr(error, "status", None)  # of a web server
        if isinstance(error, (FileNotFoundError, NotADirectoryError)) or status in (404, 410):
            return FileNotFoundError(
                errno.ENOENT, "no such file" if self.is_web else "no such bucket or key", str(self)
            )
        if "Credential" in type(error).__name__:
            return AccessError(f"{self}: no credentials ({_told(error)})")
        if isinstance(error, PermissionError) or status in (401, 403):
            return AccessError(f"{self}: access denied, or wrong credentials")
        return RemoteError(f"{self}: cannot be reached ({_told(error)})")

    def files(self) -> dict[str, Stamp]:
        """Every file below, by its path below; of a file itself the path is "". Empty if a bucket has neither.

        A web server lists nothing, so there a URL is a file.
        """
        with self.filesystem() as (fs, path):
            if self.is_web:
                return {"": _stamp(fs.info(path))}
            path = path.rstrip("/")
            found = fs.find(path, detail=True)
            below = {name.removeprefix(path).lstrip("/"): info for name, info in found.items()}
            return {name: _stamp(info) for name, info in below.items() if _is_file(name)}

    def stamped(self) -> Stamp:
        """What is known of a file without reading it."""
        if self.stamp:
            return self.stamp
        with self.filesystem() as (fs, path):
            return _stamp(fs.info(path))

    def exists(self) -> bool:
        """Whether there is such a file."""
        try:
            self.stamped()
        except FileNotFoundError:
            return False
        return True

    def read_bytes(self, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes of a file, or some of them."""
        with self.filesystem() as (fs, path):
            content: bytes = fs.cat_file(path, start=start, end=end)
            return content

    def open(self, block: int = _BLOCK) -> io.BufferedReader:
        """A file to be read in parts of `block` bytes."""
        return io.BufferedReader(_Parts(self), block)

    def fetch(self, copies: dict[str, Path]) -> None:
        """Copy files from below to this machine; the path "" is the file itself."""
        for copy in copies.values():
            copy.parent.mkdir(parents=True, exist_ok=True)
        with self.filesystem() as (fs, path):
            names = [quote(name) if self.is_web else name for name in copies]
            remote = [f"{path.rstrip('/')}/{name}" if name else path for name in names]
            fs.get(remote, [str(copy) for copy in copies.values()])


class _Parts(io.RawIOBase):
    """A remote file of which only what is read is asked for."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._at = 0

    @cached_property
    def _size(self) -> int:
        return self._remote.stamped().bytes or 0

    @property
    def name(self) -> str:
        return self._remote.name  # pydicom asks for it

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        content = self._remote.read_bytes(self._at, end) if end > self._at else b""
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


@cache  # fsspec keeps one client for equal arguments
def _client() -> dict[str, Any]:
    """How web servers are asked."""
    from aiohttp import ClientTimeout, TraceConfig
    from yarl import URL

    async def refuse(session: Any, context: Any, redirect: Any) -> None:
        target = redirect.response.headers.get("Location") or redirect.response.headers.get("URI") or ""
        if redirect.url.scheme == "https" and URL(target).scheme == "http":
            redirect.response.close()
            raise _InTheClearError("it sends on from https to http, where anybody could read and change it")

    trace = TraceConfig()
    trace.on_request_redirect.append(refuse)
    return {"timeout": ClientTimeout(total=None, sock_read=_PATIENCE), "trace_configs": [trace]}


class _InTheClearError(Exception):
    """A redirect to a connection that is not encrypted."""


def _is_file(name: str) -> bool:
    """Not the mark that some tools leave for an empty folder, and nothing that would be outside of a copy."""
    return not name.endswith("/") and (not name or stays_below(name))


def _stamp(info: dict[str, Any]) -> Stamp:
    changed = info.get("LastModified") or info.get("mtime") or info.get("created") or info.get("Last-Modified")
    if isinstance(changed, str):
        changed = parsedate_to_datetime(changed)
    seconds = changed.timestamp() if isinstance(changed, datetime) else float(changed or 0)
    version = info.get("ETag") or info.get("etag") or (str(seconds) if seconds else None)
    size = info.get("size")
    return Stamp(None if size is None else int(size), round(seconds * 1e9), version and str(version).strip('"'))


def _one_version(versions: list[str]) -> str:
    return versions[0] if len(versions) == 1 else sha256("".join(versions).encode()).hexdigest()


def _told(error: Exception) -> str:
    """What a library says, in one line without queries and credentials."""
    text = " ".join((str(error) or type(error).__name__).split())
    return re.sub(r"//[^/\s'\"]*@", "//", re.sub(r"[?][^\s'\"]*", "", text))[:160]
