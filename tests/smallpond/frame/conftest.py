"""Sessions for tests of data frames: tasks run in this process, so a test takes milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import smallpond
from smallpond.dataframe import Session

SessionMaker = Callable[..., Session]
MODES = ("single", "exchange")


@pytest.fixture
def make_session(tmp_path: Path) -> Iterator[SessionMaker]:
    """Makes sessions that end with the test."""
    sessions: list[Session] = []

    def make(**options: Any) -> Session:
        given = {"executor": "inprocess", "progress": False, "data_root": str(tmp_path / "root")}
        session = smallpond.init(**{**given, **options})
        sessions.append(session)
        return session

    yield make
    for session in sessions:
        session.shutdown()


@pytest.fixture
def sp(make_session: SessionMaker) -> Session:
    """A session that lowers as it likes."""
    return make_session()


@pytest.fixture(params=MODES)
def sp_both(request: pytest.FixtureRequest, make_session: SessionMaker) -> Session:
    """A session that lowers to one task, then one that lowers to exchanges of three partitions."""
    return make_session(lowering=request.param, npartitions=3)
