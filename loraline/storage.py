"""The object store: an S3 client for any S3-compatible server, through the `minio` package.

Endpoint and credentials come from the usual environment variables: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, and AWS_REGION if the server needs one.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from loraline import progress
from loraline.errors import ConfigurationError, StorageAwayError, StorageError

_CHUNK_SIZE = 1 << 20  # bytes
_MAX_ATTEMPTS = 4
_SECONDS_TO_WAIT = 900.0  # ranks wait for one another for an hour (training/distributed.py)
_SECONDS_BETWEEN_TRIES = 5.0
_SECONDS_BETWEEN_NOTES = 60.0
_REQUIRED = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


T = TypeVar("T")


@dataclass(frozen=True)
class S3Url:
    """A parsed `s3://bucket/key`."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, url: str) -> "S3Url":
        """Parse an S3 URL. Raises ConfigurationError if it is not one."""
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise ConfigurationError(f"{url!r} is not an S3 URL; write s3://bucket/key")
        return cls(parts.netloc, parts.path.lstrip("/"))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class StoredObject:
    """An object of the store: key, size in bytes, ETag and time of the last write."""

    key: str
    size: int
    etag: str
    modified: datetime | None


def connect() -> Minio:
    """Create a client from the environment.

    Raises:
        ConfigurationError: endpoint or credentials are missing.
    """
    missing = [name for name in _REQUIRED if not os.environ.get(name)]
    if missing:
        raise ConfigurationError(
            f"no object store: {', '.join(missing)} not set. `loraline run` starts a local store; "
            "elsewhere set the three to your S3 server's endpoint and credentials."
        )
    endpoint = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    return Minio(
        endpoint.netloc,
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        secure=endpoint.scheme == "https",
        # A known region saves a request per bucket, which not every server supports.
        region=os.environ.get("AWS_REGION", "us-east-1"),
        http_client=urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=10, read=300),
            retries=urllib3.Retry(total=4, backoff_factor=0.5, status_forcelist=[500, 502, 503, 504]),
        ),
    )


def _storage_error(operation: str, error: Exception) -> StorageError:
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    error_class = StorageAwayError if _is_away(error) else StorageError
    return error_class(f"{operation} failed at {endpoint}: {error}")


def _is_away(error: Exception) -> bool:
    """Whether the server did not answer, or said that it cannot now; else it has refused."""
    if isinstance(error, S3Error):
        return bool(error.response.status >= 500 or error.response.status == 429)
    if isinstance(error, InvalidResponseError):
        return error._code >= 500 or error._code == 429
    return isinstance(error, urllib3.exceptions.HTTPError | ServerError)


def when_it_answers(operation: Callable[[], T]) -> T:
    """Do something with the store, again and again while it is away, and return what that returns.

    On a cluster a step that ends with an error is not tried again, so that what can pass is waited for in the step.

    Raises:
        StorageAwayError: the store is still away after a quarter of an hour.
        StorageError: the store refuses.
    """
    began, told = time.monotonic(), -math.inf
    while True:
        try:
            result = operation()
        except StorageAwayError as error:
            waited = time.monotonic() - began
            if waited >= _SECONDS_TO_WAIT:
                raise StorageAwayError(
                    f"the object store is still away after {waited / 60:.0f} minutes, and what it holds is not known: "
                    f"{error}. Start again when it answers: what is done is kept"
                ) from error
            if waited - told >= _SECONDS_BETWEEN_NOTES:
                told = waited
                progress.note(
                    f"waiting for the object store, {waited:.0f} s of at most {_SECONDS_TO_WAIT:.0f}: {error}"
                )
            time.sleep(_SECONDS_BETWEEN_TRIES)
        else:
            if told >= 0:
                progress.note(f"the object store answers, after {time.monotonic() - began:.0f} s")
            return result


def list_objects(url: str, missing_bucket_ok: bool = False) -> list[StoredObject]:
    """List the objects at or under a URL, sorted by key.

    Args:
        url: an object, or a prefix.
        missing_bucket_ok: a bucket that does not exist holds no objects; `upload` creates it. Else it is an error.

    Raises:
        StorageError: the store refuses; StorageAwayError: it cannot be reached.
    """
    at = S3Url.parse(url)
    try:
        found = [
            StoredObject(item.object_name, item.size or 0, (item.etag or "").strip('"'), item.last_modified)
            for item in connect().list_objects(at.bucket, prefix=at.key, recursive=True)
            if item.object_name == at.key or not at.key or _is_under(item.object_name or "", at.key)
        ]
    except (MinioException, urllib3.exceptions.HTTPError) as error:
        # Not S3Error.code: minio reads no code from a server that answers as text/xml, as rclone does.
        if missing_bucket_ok and "NoSuchBucket" in str(error):
            return []
        raise _storage_error(f"listing {url}", error) from error
    return sorted(found, key=lambda item: item.key)


def _is_under(key: str, prefix: str) -> bool:
    return key.startswith(prefix.rstrip("/") + "/")


def download(url: str, folder: Path) -> list[Path]:
    """Download all objects at or under a URL into a folder, under their paths relative to it.

    Raises:
        StorageError: there is no such object, or the store cannot be reached or refuses.
    """
    at = S3Url.parse(url)
    found = list_objects(url)
    if not found:
        raise StorageError(f"there is no object at {url} (endpoint {os.environ.get('AWS_ENDPOINT_URL')})")
    client = connect()
    paths = []
    for item in found:
        below = item.key.rsplit("/", 1)[-1] if item.key == at.key else item.key[len(at.key) :].lstrip("/")
        target = folder / below
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            client.fget_object(at.bucket, item.key, str(target))
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise _storage_error(f"reading s3://{at.bucket}/{item.key}", error) from error
        paths.append(target)
    return paths


def read(url: str) -> Iterator[bytes]:
    """Stream an object in pieces of 1 MiB. After a broken connection it resumes from the last byte.

    Raises:
        StorageError: there is no such object, or the store cannot be reached or refuses.
    """
    at = S3Url.parse(url)
    client = connect()
    done, attempts = 0, 0
    while True:
        before = done
        try:
            response = client.get_object(at.bucket, at.key, offset=done)
            try:
                for piece in response.stream(_CHUNK_SIZE):
                    done += len(piece)
                    yield piece
            finally:
                response.close()
                response.release_conn()
            return
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            attempts = 1 if done > before else attempts + 1
            if isinstance(error, MinioException) or attempts > _MAX_ATTEMPTS:
                raise _storage_error(f"reading {url}", error) from error


def read_range(url: str, offset: int, length: int) -> bytes:
    """Read some bytes of an object; fewer at its end.

    Raises:
        StorageError: there is no such object, or the store cannot be reached or refuses.
    """
    at = S3Url.parse(url)
    try:
        response = connect().get_object(at.bucket, at.key, offset=offset, length=length)
        try:
            return bytes(response.read())
        finally:
            response.close()
            response.release_conn()
    except (MinioException, urllib3.exceptions.HTTPError) as error:
        raise _storage_error(f"reading {url}", error) from error


def upload(path: Path, url: str) -> None:
    """Upload a file to a URL, or a folder's files under it; the bucket is created if it does not exist.

    Raises:
        StorageError: the store cannot be reached or refuses.
    """
    at = S3Url.parse(url)
    client = connect()
    try:
        if not client.bucket_exists(at.bucket):
            client.make_bucket(at.bucket)
        for file, key in _files(path, at.key):
            client.fput_object(at.bucket, key, str(file))
    except (MinioException, urllib3.exceptions.HTTPError) as error:
        raise _storage_error(f"writing {url}", error) from error


def remove(url: str) -> None:
    """Remove all objects at or under a URL.

    Raises:
        StorageError: the store cannot be reached or refuses.
    """
    at = S3Url.parse(url)
    client = connect()
    for item in list_objects(url):
        try:
            client.remove_object(at.bucket, item.key)
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise _storage_error(f"removing s3://{at.bucket}/{item.key}", error) from error


def _files(path: Path, key: str) -> Iterator[tuple[Path, str]]:
    if path.is_file():
        yield path, key
        return
    for file in sorted(path.rglob("*")):
        if file.is_file():
            yield file, f"{key.rstrip('/')}/{file.relative_to(path).as_posix()}"
