"""A PostgreSQL server of the tests' own: on loopback, with passwords, to be killed at will."""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import psycopg

PASSWORD = "s3cr&t @:/?%#{x}"  # noqa: S105 - all that a URL could stumble over


def binaries():
    """Return the folder of the server's programs, or None."""
    found = shutil.which("initdb")
    places = [Path(found).resolve()] if found else [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]  # fmt: skip
    return max(places).parent if places else None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """Starts at once; `database` gives a fresh database."""

    def __init__(self):
        self.bin, self.port = binaries(), free_port()
        self.root = Path(tempfile.mkdtemp(prefix="gsvae-postgresql-"))
        # The server refuses to run as root.
        self.user = "postgres" if os.geteuid() == 0 else getpass.getuser()
        self.as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []  # fmt: skip
        secret = self.root / "password"
        secret.write_text(PASSWORD)
        if self.as_user:
            for path in (self.root, secret):
                shutil.chown(path, self.user)
        self.process, self._databases = None, 0
        subprocess.run(
            [*self.as_user, self.bin / "initdb", "-D", self.data, "-U", "me", "--no-sync", "--no-instructions",
             "--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--locale=C"],
            check=True, capture_output=True, cwd="/",
        )  # fmt: skip
        self.start()

    @property
    def data(self):
        return self.root / "data"

    def start(self):
        for _ in range(50):  # of a killed server, some processes live on for a moment
            self.process = subprocess.Popen(
                [*self.as_user, self.bin / "postgres", "-D", self.data, "-p", str(self.port), "-k", self.root,
                 "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"],
                stdout=subprocess.DEVNULL, stderr=(self.root / "log").open("ab"), cwd="/",
            )  # fmt: skip
            while self.process.poll() is None:
                with contextlib.suppress(psycopg.OperationalError):
                    self.connect("postgres").close()
                    return
                time.sleep(0.05)
            time.sleep(0.1)
        raise RuntimeError((self.root / "log").read_text()[-2000:])

    def stop(self, by=signal.SIGQUIT):
        """Stop it at once: SIGQUIT is `pg_ctl stop -m immediate`, SIGKILL a power cut."""
        if self.process.poll() is None:
            self.process.send_signal(by)
            self.process.wait(30)

    def close(self):
        self.stop()
        time.sleep(0.2)
        shutil.rmtree(self.root, ignore_errors=True)

    def connect(self, database):
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="me", password=PASSWORD, dbname=database,
            autocommit=True, connect_timeout=5,
        )  # fmt: skip

    def database(self):
        """Make a database; return its URLs with the password and without."""
        self._databases += 1
        name = f"study{self._databases}"
        with self.connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return (
            f"postgresql://me:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{name}",
            f"postgresql://me@127.0.0.1:{self.port}/{name}",
        )
