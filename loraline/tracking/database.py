"""The SQLite file in which runs are tracked on one machine: whole, or not there.

MLflow makes its tables where it finds them missing, in some seconds of migrations that SQLite does not take back. What
is interrupted there, or done by two processes at once, leaves a file that every later process fails on. So the file is
made under another name, by one process at a time, and renamed once it is whole.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

from loraline import progress
from loraline.errors import StorageError

_SCHEME = "sqlite:///"
_KEPT_TABLES = ("runs", "registered_models")  # their rows are somebody's work
_VERSION_TABLE = "alembic_version"


def make_database(uri: str) -> None:
    """Make the database file that a `sqlite:///` URI names, unless it is there; leave other URIs alone.

    A file that an interrupted process left half made, and that holds no run and no model, is set aside.

    Raises:
        StorageError: the file holds runs or models under a schema that is not that of this MLflow, or is no database.
    """
    path = Path(uri.removeprefix(_SCHEME).partition("?")[0])
    if not uri.startswith(_SCHEME) or str(path) in (".", ":memory:"):
        return
    if path.exists() and _is_complete(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path):
        if path.exists() and not _is_complete(path):
            _set_aside(path)
        if not path.exists():
            _make(path)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Be the only process in this context; the lock ends with the process, however it ends."""
    with path.with_name(f"{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(path: Path) -> None:
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    unfinished = path.with_name(f"{path.name}.unfinished")
    for left in (unfinished, Path(f"{unfinished}-journal")):  # of a process that was killed here
        left.unlink(missing_ok=True)
    engine = create_sqlalchemy_engine(f"{_SCHEME}{unfinished}")
    try:
        _initialize_tables(engine)
    finally:
        engine.dispose()
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.rename(path)


def _is_complete(path: Path) -> bool:
    """Whether the file has all tables, in this MLflow's version of them."""
    from mlflow.store.db.utils import Base, _get_latest_schema_revision

    with _connected(path) as connection:
        tables = _tables(connection)
        if not tables >= {*Base.metadata.tables, _VERSION_TABLE}:
            return False
        return connection.execute(f"select version_num from {_VERSION_TABLE}").fetchall() == [
            (_get_latest_schema_revision(),)
        ]


def _set_aside(path: Path) -> None:
    """Rename a file that is half made. Raises StorageError where it holds somebody's work."""
    with _connected(path) as connection:
        there = [name for name in _KEPT_TABLES if name in _tables(connection)]
        counts = {name: connection.execute(f"select count(*) from {name}").fetchone()[0] for name in there}
    kept = " and ".join(f"{number} {name.replace('_', ' ')}" for name, number in counts.items() if number)
    if kept:
        raise StorageError(
            f"{path} holds {kept}, and its tables are not those of this version of MLflow. Copy the file, then bring "
            f"it up to date with `mlflow db upgrade {_SCHEME}{path}`; or begin a new one with `mv {path} {path}.old`"
        )
    aside = next(name for i in count(1) if not (name := path.with_name(f"{path.name}.half-made-{i}")).exists())
    path.rename(aside)
    progress.note(f"{path} was left half made by an interrupted run, without a run in it; it is now {aside.name}")


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    """Connect to the file. Raises StorageError where it is no database, or cannot be read."""
    try:
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise StorageError(
            f"{path}, the database of tracked runs, cannot be read: {error}. Move it away, or set MLFLOW_TRACKING_URI "
            "to another"
        ) from error
