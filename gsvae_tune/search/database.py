"""A database as the storage: connected to without its password in sight, and told from a lost one.

Optuna and SQLAlchemy are given the URL without the password, and the driver alone the password:
what they raise, log or show cannot hold it. What a driver raises can (its connection hangs on it),
so no such error is printed, passed on or left as the cause of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from optuna.storages import RDBStorage, get_storage
from sqlalchemy import event, text
from sqlalchemy.dialects import plugins
from sqlalchemy.engine import URL, CreateEnginePlugin, Engine, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError

from gsvae_tune.search.patience import Patience, PatientStorage, Unreachable
from gsvae_tune.study import passwords
from gsvae_tune.study.errors import InputError

OPENING_S = 15.0  # at most: a wrong host in a URL should not cost minutes
_CONNECT_S = 10

# psycopg 3, which SQLAlchemy took for the default only lately.
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
# Notice within a minute that the server's machine is gone.
_POSTGRESQL = {
    "connect_timeout": _CONNECT_S,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 40_000,  # ms
}

# SQLSTATE: no connection, no room, shut down or starting, its disk failed; then: conflicts with
# others that are over when tried again, and a standby that is yet to take over.
_PASSING_CLASSES = ("08", "53", "57", "58")
_PASSING = ("40001", "40P01", "55P03", "25006")
_SQLITE_PASSING = ("locked", "busy", "disk i/o error", "is full", "unable to open")

# What a server says to those it does not let in, and what we say: never its own text.
_REFUSALS = {
    "password authentication failed": "the server does not take this password",
    "no password supplied": "the server asks for a password",
    "pg_hba.conf": "the server lets this user or this machine not in",
    "does not exist": "the server knows no such user or database",
    "permission denied": "the server gives this user no permission",
    "unable to open database file": "no such folder, or no permission",
}
_STATES = {
    "42501": "this user may not make or change tables there",
    "42P01": "it holds no study",
}
_PLUGIN, _SECRETS = "gsvae_tune", "gsvae_tune_secrets"


class _Connections(CreateEnginePlugin):
    """Gives an engine's connections the password, and raises `Unreachable` for errors that pass."""

    def __init__(self, url: URL, kwargs: dict[str, Any]) -> None:
        self._secrets: Callable[[], dict[str, str]] = kwargs.pop(_SECRETS)

    def update_url(self, url: URL) -> URL:
        return url

    def engine_created(self, engine: Engine) -> None:
        event.listen(engine, "handle_error", _translate)
        event.listen(engine, "do_connect", self._unlock)

    def _unlock(self, _dialect: object, _record: object, _args: object, settings: Any) -> None:
        settings.update(self._secrets())


plugins.register(_PLUGIN, __name__, _Connections.__name__)


def _translate(context: ExceptionContext) -> None:
    error = context.original_exception
    if context.is_pre_ping:
        return  # a stale connection of the pool: SQLAlchemy makes a new one
    connecting = context.connection is None
    if context.is_disconnect or _passes(error, connecting=connecting):
        raise Unreachable(_refusal(error) if connecting else "")


def _passes(error: BaseException, *, connecting: bool) -> bool:
    state = getattr(error, "sqlstate", None)
    if state:
        return state.startswith(_PASSING_CLASSES) or state in _PASSING
    if type(error).__name__ not in {"OperationalError", "InterfaceError", "ConnectionTimeout"}:
        return False
    if type(error).__module__.startswith("sqlite3"):
        return any(said in str(error).lower() for said in _SQLITE_PASSING)
    return connecting


def _refusal(error: BaseException) -> str:
    said = str(error)
    return next((ours for theirs, ours in _REFUSALS.items() if theirs in said), "")


def open_database(
    url: str,
    kept: str,
    *,
    must_exist: bool,
    patience_s: float,
    notify: Callable[[str], None] | None,
) -> PatientStorage:
    """Connect to a database.

    Args:
        url: where it is; it may hold a password.
        kept: the study's folder, for messages.
        must_exist: for readers: nothing is made in it.
        patience_s: how long each operation is tried again.
        notify: is told when the database is lost and when it is back.

    Raises:
        InputError: the URL is of no database, or the database lets nobody in.
        UnfinishedError: it does not answer.
    """
    shown = passwords.without_password(url)
    try:
        address, secrets = _locate(url)
        opening = Patience(shown, kept, min(patience_s, OPENING_S), notify)
        database = opening(lambda _: _connect(address, secrets, must_exist=must_exist))
    except _Closed as closed:
        problem = closed.why
    except ImportError as error:
        cause = error.__cause__ if isinstance(error.__cause__, ImportError) else error
        driver = cause.name or "of this database"
        raise InputError(
            f"{shown} needs the driver {driver}, which is not installed",
            where="storage",
            next_step="pip install " + ("'psycopg[binary]'" if driver == "psycopg" else driver),
        ) from None
    except (ArgumentError, ValueError):  # as for a port that is no number
        problem = "no database is known by this URL"
    else:
        patience = Patience(shown, kept, patience_s, notify)
        return PatientStorage(get_storage(database), patience, partial(_settle, database))
    # Outside of the handlers: the driver's error stays with them.
    raise InputError(
        f"cannot open {shown}: {problem}",
        where="storage",
        legal="a database that is there, e.g. sqlite:///trials.db or postgresql://user@host/name; "
        f"a password may stand in ${passwords.VARIABLE}",
    )


class _Closed(Exception):  # noqa: N818 - said by `why`
    """The database cannot be used, and trying again would not help."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def _locate(url: str) -> tuple[URL, dict[str, str]]:
    """Return a URL without its password, its driver named, and the password."""
    bare, secrets = passwords.complete(url)
    address = make_url(bare)
    address = address.set(drivername=_DRIVERS.get(address.drivername, address.drivername))
    return address, {} if address.get_backend_name() == "sqlite" else secrets


def _connect(address: URL, secrets: dict[str, str], *, must_exist: bool) -> RDBStorage:
    """Open the database, making its tables where there are none.

    Raises:
        Unreachable: it does not answer.
        _Closed: it lets nobody in.
    """
    file = address.database if address.get_backend_name() == "sqlite" else None
    if must_exist and file and not Path(file).is_file():
        raise _Closed("there is no such file")  # SQLite would make an empty one
    settings = _POSTGRESQL if address.drivername == "postgresql+psycopg" else {}
    try:
        return RDBStorage(
            # Optuna fills in {...} in it.
            address.render_as_string().replace("{", "{{").replace("}", "}}"),
            engine_kwargs={
                "pool_pre_ping": True,
                "connect_args": {k: v for k, v in settings.items() if k not in address.query},
                "plugins": [_PLUGIN],
                _SECRETS: lambda: secrets,  # the storage keeps these, and may be shown
            },
            skip_table_creation=must_exist,
        )  # fmt: skip
    except Unreachable as lost:
        if not lost.refusal:
            raise
        why = lost.refusal
    except (ImportError, ArgumentError):
        raise
    except Exception as error:  # noqa: BLE001 - SQLAlchemy, driver and Optuna raise kinds of their own
        why = _why(error)
    raise _Closed(why)


def _why(error: BaseException) -> str:
    """Return what an error says of a database, in words that no URL can be in."""
    inner: BaseException | None = error
    while inner is not None:
        state = getattr(inner, "sqlstate", None)
        if state:
            return _STATES.get(state, f"{type(inner).__name__} (SQLSTATE {state})")
        if "no such table" in str(inner):
            return _STATES["42P01"]
        error, inner = inner, inner.__cause__
    return type(error).__name__


def _settle(database: RDBStorage, study_id: int) -> None:
    """Wait for a transaction on a study that a lost connection may have left under way."""
    if database.engine.name == "postgresql":  # Optuna's transactions lock the study's row
        with database.engine.begin() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '30s'"))
            locked = text("SELECT 1 FROM studies WHERE study_id = :study FOR UPDATE")
            connection.execute(locked, {"study": study_id})
