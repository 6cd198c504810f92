"""Both databases, for tests: SQLite in a file, and a PostgreSQL of its own on a socket in a folder."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from serinus.dora.store.schema import connect


def programs() -> Path | None:
    """Where initdb and postgres are; Debian keeps them out of the PATH."""
    found = shutil.which("initdb")
    known = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return known[-1] if known else None


@contextlib.contextmanager
def server(*, durable: bool = False) -> Iterator[str]:
    """The URL of a database server that is there until the end; `durable`: it syncs. It does not run as root: then as nobody."""
    bin_ = programs()
    assert bin_
    user = "nobody" if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="serinus-pg-") as folder:
        home = Path(folder)
        if user:
            os.chown(home, pwd.getpwnam(user).pw_uid, -1)
        home.chmod(0o700)
        data, log = home / "data", home / "log"
        sync = f"fsync={'on' if durable else 'off'}"
        quick = ("-c", sync, "-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}")
        run = {"user": user, "cwd": folder, "env": {"PATH": str(bin_), "LC_ALL": "C.UTF-8"}}
        command = [bin_ / "initdb", "-D", data, "-U", "serinus", "-A", "trust", "-N", "-E", "UTF8"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **run)  # type: ignore[call-overload]  # noqa: S603
        with log.open("w") as out:
            process = subprocess.Popen([bin_ / "postgres", "-D", data, *quick], stderr=out, **run)  # type: ignore[call-overload]  # noqa: S603
        try:
            while not _ready(data / "postmaster.pid"):
                assert process.poll() is None, log.read_text()
            yield f"postgresql+psycopg://serinus@/postgres?host={folder}"
        finally:
            process.terminate()
            process.wait(30)


def _ready(lock: Path) -> bool:
    """Its last line says so: https://www.postgresql.org/docs/current/storage-file-layout.html has postmaster.pid."""
    return lock.exists() and lock.read_text().rstrip().endswith("ready")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/dora.db"
        return
    if programs() is None:
        pytest.skip("there is no PostgreSQL on this machine")
    admin = create_engine(request.getfixturevalue("postgres"), isolation_level="AUTOCOMMIT")
    name = f"t{uuid.uuid4().hex}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    yield str(request.getfixturevalue("postgres")).replace("/postgres?", f"/{name}?")


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """With its tables."""
    made = connect(url)
    yield made
    made.dispose()
