"""Passwords in URLs: taken out wherever they stand, put back where a connection is made."""

import os
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from gsvae_tune.study import passwords
from gsvae_tune.study.passwords import (  # fmt: skip
    complete,
    hand_on,
    split,
    take_from_arguments,
    without_password,
)


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch):
    monkeypatch.setattr(passwords, "_handed", {})
    monkeypatch.setattr(passwords, "_general", [])


@pytest.mark.parametrize(
    ("url", "bare", "password"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me@host/db", "secret"),
        ("postgresql://me:p%40s%2Fs@host:5432/db?sslmode=require", "postgresql://me@host:5432/db?sslmode=require", "p@s/s"),
        ("postgres://me:p@ss@host/db", "postgres://me@host/db", "p@ss"),
        ("postgresql://me:p/?w@host/db?options=a@b", "postgresql://me@host/db?options=a@b", "p/?w"),
        ("postgresql://:secret@/db", "postgresql://@/db", "secret"),
        ("postgresql://me:@host/db", "postgresql://me@host/db", ""),
        ("postgresql://me:secret@[::1]:5432/db", "postgresql://me@[::1]:5432/db", "secret"),
        ("postgresql://me@host/db?password=s%26x&sslmode=x", "postgresql://me@host/db?sslmode=x", "s&x"),
        ("postgresql:///db?host=/run&user=me&PASSWORD=z", "postgresql:///db?host=/run&user=me", "z"),
        ("mysql+pymysql://me:%7B%7D@host/db", "mysql+pymysql://me@host/db", "{}"),
    ],
)  # fmt: skip
def test_a_password_is_taken_out(url, bare, password):
    assert split(url) == (bare, {"password": password})
    assert without_password(url) == bare
    assert split(bare) == (bare, {})


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///trials.db", "sqlite:////home/me@work/a:b@c.db", "sqlite://", "postgresql://host:5432/db",
        "postgresql://me@host:5432/db", "postgresql:///db?host=/run@x:y",
    ],
)  # fmt: skip
def test_what_holds_none_stays_as_it_is(url):
    assert split(url) == (url, {})


def test_what_is_no_url_is_not_repeated():
    assert without_password("host=h password=secret") == "(a text that is no URL)"
    assert without_password("secret") == "(a text that is no URL)"


@given(st.text(min_size=1), st.text("abcz019", min_size=1))
def test_any_password_written_as_a_url_wants_it_is_read_as_sqlalchemy_reads_it(password, user):
    url = f"postgresql://{user}:{quote(password, safe='')}@host:5432/db?sslmode=require"
    bare, secrets = split(url)
    assert secrets["password"] == password == make_url(url).password
    assert bare == f"postgresql://{user}@host:5432/db?sslmode=require"


def test_arguments_lose_their_passwords_and_connections_find_them():
    words = [
        "run", "digits", "--storage", "postgresql://a:one@h/x", "--to=postgresql://b:two@h/y",
        "--set", 'storage="postgresql://c:three@h/z"', "--set", "training.epochs=3",
    ]  # fmt: skip
    assert take_from_arguments(words) == [
        "run", "digits", "--storage", "postgresql://a@h/x", "--to=postgresql://b@h/y",
        "--set", 'storage="postgresql://c@h/z"', "--set", "training.epochs=3",
    ]  # fmt: skip
    assert complete("postgresql://b@h/y") == ("postgresql://b@h/y", {"password": "two"})
    assert complete("postgresql://c:own@h/z")[1] == {"password": "own"}
    assert complete("postgresql://d@h/z")[1] == {}


def test_who_calls_the_library_may_use_the_environment_too(monkeypatch):
    monkeypatch.setenv(passwords.VARIABLE, "general")
    assert complete("postgresql://a@h/x") == ("postgresql://a@h/x", {"password": "general"})
    assert complete("postgresql://a:own@h/x")[1] == {"password": "own"}


def test_the_environment_hands_passwords_on_once(monkeypatch):
    monkeypatch.setenv(passwords.VARIABLE, "general")
    take_from_arguments(["postgresql://a:one@h/x"])
    hand_on()
    passwords._handed.clear()
    passwords.take_from_environment()
    assert passwords.VARIABLE not in os.environ
    assert passwords.HANDED not in os.environ
    assert complete("postgresql://a@h/x")[1] == {"password": "one"}
    assert complete("postgresql://b@h/x")[1] == {"password": "general"}
