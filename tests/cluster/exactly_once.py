"""Clients whose operations must not happen twice, and what they remember of each.

Why these operations: done twice, each of them is seen. A second exclusive create, rename, unlink or
first put is refused; a second append shows in the file. Outcomes: "done", or "unknown" when the
deadline passed; a refusal on a name of the actor's own is a repetition and fails the test at once.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise

import firepond
from firepond.client.cluster import Cluster
from firepond.client.kv import Status, kv
from firepond.fs.errors import DeadlineExceeded

OPERATION_TIMEOUT_S = 60.0
RECORD_BYTES = 40


class Actor(ABC):
    """A thread with a client of its own that prepares, and then acts until it is stopped."""

    def __init__(self, address: str, number: int) -> None:
        self.address = address
        self.name = f"{type(self).__name__.lower()}-{number}"
        self.client: Cluster
        self.turn_count = 0
        self.unknown: list[int] = []
        self.times: list[float] = []
        self.failure: BaseException | None = None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    @abstractmethod
    def prepare(self) -> None:
        """Makes what is there before the first turn."""

    @abstractmethod
    def act(self, turn: int) -> None:
        """One operation."""

    @abstractmethod
    def verify(self, client: Cluster) -> None:
        """Each turn has happened once; an unknown one at most once."""

    def _run(self) -> None:
        try:
            with firepond.connect(self.address, timeout_s=OPERATION_TIMEOUT_S) as self.client:
                self.prepare()
                while not self.stopping.is_set():
                    try:
                        self.act(self.turn_count)
                    except DeadlineExceeded:
                        self.unknown.append(self.turn_count)
                    self.turn_count += 1
                    self.times.append(time.monotonic())
        except BaseException as error:
            error.add_note(f"{self.name}, turn {self.turn_count}")
            self.failure = error

    def stall_s(self, since: float) -> float:
        """The longest time between two turns that ended after `since`."""
        gaps = [after - before for before, after in pairwise(self.times) if after >= since]
        return max(gaps, default=0.0)


class Creator(Actor):
    """Exclusive creates: of names of its own, and of names that all creators try."""

    tried: defaultdict[str, list[str]]
    lock: threading.Lock

    def prepare(self) -> None:
        """Nothing: every turn makes its own."""

    def act(self, turn: int) -> None:
        self.client.open_raw(f"/{self.name}.{turn}", "xb").close()
        shared = f"/created.{turn}"
        outcome = "unknown"
        try:
            self.client.open_raw(shared, "xb").close()
            outcome = "done"
        except FileExistsError:
            outcome = "refused"
        finally:
            with self.lock:
                self.tried[shared].append(outcome)

    def verify(self, client: Cluster) -> None:
        names = set(client.listdir("/"))
        for turn in range(self.turn_count):
            assert f"{self.name}.{turn}" in names or turn in self.unknown, turn
        for name, outcomes in self.tried.items():
            winners = outcomes.count("done")
            assert winners == 1 or (winners == 0 and "unknown" in outcomes), (name, outcomes)


class Mover(Actor):
    """Renames one file from name to name, never replacing."""

    def prepare(self) -> None:
        self.client.write_bytes(f"/{self.name}.0", b"moved")
        self.at = 0

    def act(self, turn: int) -> None:
        try:
            self.client.rename(f"/{self.name}.{self.at}", f"/{self.name}.{self.at + 1}")
        except DeadlineExceeded:
            moved = self.client.exists(f"/{self.name}.{self.at + 1}")
            self.at += moved
            raise
        self.at += 1

    def verify(self, client: Cluster) -> None:
        found = [name for name in client.listdir("/") if name.startswith(f"{self.name}.")]
        assert found == [f"{self.name}.{self.at}"], found
        assert client.read_bytes("/" + found[0]) == b"moved"


class Linker(Actor):
    """Gives a file a second name and takes it away: the link count tells."""

    def prepare(self) -> None:
        self.client.write_bytes(f"/{self.name}", b"linked")

    def act(self, turn: int) -> None:
        self.client.link(f"/{self.name}", f"/{self.name}.{turn}")
        self.client.remove(f"/{self.name}.{turn}")

    def verify(self, client: Cluster) -> None:
        found = client.stat(f"/{self.name}").st_nlink
        assert 1 <= found <= 1 + len(self.unknown), found


class Appender(Actor):
    """Appends numbered records to a file of its own, each durable before the next."""

    def record(self, turn: int) -> bytes:
        """The bytes of a turn."""
        return f"{self.name} {turn}".encode().ljust(RECORD_BYTES - 1) + b"\n"

    def prepare(self) -> None:
        self.file = self.client.open_raw(f"/{self.name}", "ab")

    def act(self, turn: int) -> None:
        self.file.write(self.record(turn))
        self.file.fsync()

    def verify(self, client: Cluster) -> None:
        content = client.read_bytes(f"/{self.name}")
        found = [content[at : at + RECORD_BYTES] for at in range(0, len(content), RECORD_BYTES)]
        expected = [self.record(turn) for turn in range(self.turn_count)]
        lost = [turn for turn, one in enumerate(expected) if one not in found]
        assert set(lost) <= set(self.unknown), lost
        assert found == [one for turn, one in enumerate(expected) if turn not in lost]


class Putter(Actor):
    """First puts of durable values: chunks that are created, and never a second time."""

    tried: defaultdict[bytes, list[tuple[str, str]]]
    lock: threading.Lock

    def prepare(self) -> None:
        self.values = kv(self.address, "exactly-once", "durable", timeout_s=OPERATION_TIMEOUT_S)

    def value(self, turn: int) -> bytes:
        """What it puts, different for each putter."""
        return f"{self.name} {turn} ".encode() * 300

    def act(self, turn: int) -> None:
        own, shared = f"{self.name} {turn}".encode(), f"shared {turn}".encode()
        value = self.value(turn)
        outcomes = self.values.put([own, shared], [value, value])
        failures = [one for one in outcomes if isinstance(one, BaseException)]
        with self.lock:
            names = {Status.STORED: "done", Status.EXISTS: "refused"}
            known = names.get(outcomes[1], "unknown") if not failures else "unknown"
            self.tried[shared].append((known, self.name))
        for failure in failures:
            raise failure
        assert outcomes[0] is Status.STORED, "a key of its own was put twice"

    def verify(self, client: Cluster) -> None:
        for turn in range(self.turn_count):
            [found] = self.values.get([f"{self.name} {turn}".encode()])
            assert found == self.value(turn) or turn in self.unknown, turn
        for key, outcomes in self.tried.items():
            winners = [name for outcome, name in outcomes if outcome == "done"]
            sure = all(outcome != "unknown" for outcome, _ in outcomes)
            assert len(winners) == 1 or (not winners and not sure), (key, outcomes)
            [found] = self.values.get([key])
            assert found is not None and (not winners or found.startswith(winners[0].encode()))


class Actors:
    """Two of each kind."""

    def __init__(self, address: str) -> None:
        kinds: list[Callable[[str, int], Actor]] = [Creator, Mover, Linker, Appender, Putter]
        self.all = [kind(address, number) for kind in kinds for number in (1, 2)]
        for kind in (Creator, Putter):
            kind.tried = defaultdict(list)
            kind.lock = threading.Lock()

    def __enter__(self) -> Actors:
        for actor in self.all:
            actor.thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends all; every one of them must end."""
        for actor in self.all:
            actor.stopping.set()
        for actor in self.all:
            actor.thread.join(2 * OPERATION_TIMEOUT_S)
            assert not actor.thread.is_alive(), f"{actor.name} hangs"

    def check(self) -> None:
        """Raises what an actor has met."""
        for actor in self.all:
            if actor.failure is not None:
                raise actor.failure

    def wait_progress(self, turns: int = 3, timeout_s: float = 60.0) -> None:
        """Waits until every actor has had this many more turns."""
        goals = [actor.turn_count + turns for actor in self.all]
        deadline = time.monotonic() + timeout_s
        while any(a.turn_count < goal for a, goal in zip(self.all, goals, strict=True)):
            self.check()
            behind = [
                a.name for a, goal in zip(self.all, goals, strict=True) if a.turn_count < goal
            ]
            assert time.monotonic() < deadline, f"no progress of {behind}"
            time.sleep(0.02)

    def verify(self) -> int:
        """The oracle; returns how many turns there were."""
        self.check()
        with firepond.connect(self.all[0].address, timeout_s=OPERATION_TIMEOUT_S) as client:
            for actor in self.all:
                actor.verify(client)
        return sum(actor.turn_count for actor in self.all)
