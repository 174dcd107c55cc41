"""A cluster of real processes on this machine, as `firepond up`, tests and benchmarks use it.

Owns: `<directory>/cluster.json` (what was started, with which settings), one data directory and one
log file a process. Never signals a process that is not the one it started: pid and start time must
agree. Processes have sessions of their own, so that they outlive the terminal.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from firepond.fs.errors import ClusterNotReady, ConfigInvalid, FirepondError, InvalidArgument

FILE_NAME = "cluster.json"
STOP_TIMEOUT_S = 20.0
POLL_S = 0.02
_FORMAT = 1


class ClusterProcess:
    """One process of the cluster, running or not."""

    def __init__(self, cluster: LocalCluster, name: str) -> None:
        self.name = name
        self._cluster = cluster

    @property
    def pid(self) -> int:
        """The process id of the last start; 0 before the first."""
        return int(self._cluster.record(self.name).get("pid", 0))

    @property
    def running(self) -> bool:
        """Whether the process that was started is still there."""
        start_ticks = self._cluster.record(self.name).get("start_ticks")
        return start_ticks is not None and _start_ticks(self.pid) == start_ticks

    @property
    def log_path(self) -> Path:
        """Where its standard error goes."""
        return self._cluster.directory / "logs" / f"{self.name}.log"

    @property
    def data_path(self) -> Path:
        """Where it keeps its data."""
        return self._cluster.directory / self.name

    @property
    def admin_address(self) -> str | None:
        """Its admin port, once it has started."""
        try:
            content = json.loads((self.data_path / "process.json").read_text())
        except (OSError, ValueError):
            return None
        return str(content["admin_address"]) if content.get("pid") == self.pid else None

    def node_ids(self) -> list[int]:
        """The ids by which the manager knows it."""
        found = []
        for path in self.data_path.glob("*/node.json"):
            found.append(int(json.loads(path.read_text())["node_id"]))
        return found

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal and, if it is SIGKILL, waits for the end."""
        if self.running:
            os.kill(self.pid, number)
        if number == signal.SIGKILL:
            self.wait()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stops it cleanly, or by force after `timeout_s`."""
        if self.running:
            os.kill(self.pid, signal.SIGCONT)
            os.kill(self.pid, signal.SIGTERM)
        if not self.wait(timeout_s):
            self.kill()

    def pause(self) -> None:
        """Freezes it, as if its machine had vanished."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> bool:
        """Waits for its end; says whether it came."""
        deadline = time.monotonic() + timeout_s
        while self.running:
            if time.monotonic() > deadline:
                return False
            self._cluster.reap(self.name)
            time.sleep(POLL_S)
        return True

    def last_words(self) -> str:
        """The last line of its log."""
        try:
            lines = self.log_path.read_text(errors="replace").strip().splitlines()
        except OSError:
            return "no log"
        return lines[-1][-500:] if lines else "nothing in its log"


class LocalCluster:
    """A manager, a metadata server and some storage processes below one directory.

    Making one of a directory that holds a cluster takes that one over, with its settings.
    """

    def __init__(
        self,
        directory: str | Path,
        storage_count: int = 3,
        replica_count: int = 3,
        settings: Sequence[str] = (),
        disks: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.directory = Path(directory).resolve()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._file = self.directory / FILE_NAME
        self._record: dict[str, Any]
        if self._file.exists():
            self._record = _read(self._file)
            return
        if not 1 <= replica_count <= storage_count:
            raise InvalidArgument(
                "a chain's replicas are on distinct storage processes",
                {"replicas": str(replica_count), "storage": str(storage_count)},
            )
        self._record = {
            "format": _FORMAT,
            "storage_count": storage_count,
            "replica_count": replica_count,
            "settings": list(settings),
            "disks": {name: list(paths) for name, paths in (disks or {}).items()},
            "manager_port": 0,
            "processes": {},
        }

    @property
    def address(self) -> str:
        """What clients connect to."""
        return f"firepond://127.0.0.1:{self._record['manager_port']}"

    @property
    def replica_count(self) -> int:
        """Replicas of each file chain."""
        return int(self._record["replica_count"])

    def names(self) -> list[str]:
        """All processes: manager, meta, storage-1 and so on."""
        numbers = range(1, int(self._record["storage_count"]) + 1)
        return ["manager", "meta", *(f"storage-{number}" for number in numbers)]

    def process(self, name: str) -> ClusterProcess:
        """A process by its name."""
        if name not in self.names():
            raise InvalidArgument(
                "no such process", {"name": name, "names": ", ".join(self.names())}
            )
        return ClusterProcess(self, name)

    def processes(self) -> list[ClusterProcess]:
        """All processes."""
        return [self.process(name) for name in self.names()]

    def process_of_node(self, node: int) -> str:
        """The name of the process that is a node."""
        for process in self.processes():
            if node in process.node_ids():
                return process.name
        raise InvalidArgument("no process of this cluster is that node", {"node": str(node)})

    def start(self) -> list[str]:
        """Starts what does not run; the names of what was started."""
        with self._locked():
            port = self._record["manager_port"]
            idle = not any(one.running for one in self.processes())
            if not port or (idle and not _is_free(port)):
                self._record["manager_port"] = _free_port()
            missing = [one.name for one in self.processes() if not one.running]
            for name in missing:
                self._spawn(name)
        return missing

    def restart(self, name: str) -> None:
        """Kills a process if it runs, and starts it again."""
        with self._locked():
            self.process(name).kill()
            self._spawn(name)

    def wait_ready(
        self, timeout_s: float = 60.0, on_progress: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        """Waits until every target of every chain serves and a metadata server lives.

        Raises ClusterNotReady, naming a process that died, or what is missing.
        """
        deadline = time.monotonic() + timeout_s
        lacking = "no answer from the manager"
        while time.monotonic() < deadline:
            self._check_alive()
            try:
                status = self.status()
            except FirepondError:
                status = {}
            if status:
                if on_progress is not None:
                    on_progress(status)
                states = status["target_states"]
                if status["ready"] and set(states) == {"serving"}:
                    return
                lacking = status["waiting_for"] or f"states of targets: {states}"
            time.sleep(0.1)
        raise ClusterNotReady(f"the cluster is not ready after {timeout_s:g} s", {"lacks": lacking})

    def status(self) -> dict[str, Any]:
        """What the manager says of the cluster. Raises ClusterUnreachable."""
        from firepond.fs.manager_client import ManagerClient

        client = ManagerClient([self.address.removeprefix("firepond://")])
        try:
            found: dict[str, Any] = client.get("/v1/status")
        finally:
            client.close()
        return found

    def stop(self, purge: bool = False) -> list[str]:
        """Stops all processes; the names of those that ran.

        The manager goes first, so that it does not judge the others one by one while they stop: at
        the next start it finds that they went together, and any replica may bring a chain back.
        """
        with self._locked():
            running = [one for one in self.processes() if one.running]
            if running and running[0].name == "manager":
                running[0].stop()
            for process in running:
                if process.running:
                    os.kill(process.pid, signal.SIGCONT)
                    os.kill(process.pid, signal.SIGTERM)
            for process in running:
                process.stop()
            for name in list(self._children):
                self.reap(name)
        if purge:
            self.purge()
        return [process.name for process in running]

    def purge(self) -> None:
        """Removes all data of a stopped cluster, and nothing else."""
        assert not any(one.running for one in self.processes()), "stopped"
        for path in [*self.data_paths(), self.directory / "logs"]:
            shutil.rmtree(path, ignore_errors=True)
        for name in (FILE_NAME, f"{FILE_NAME}.lock"):
            (self.directory / name).unlink(missing_ok=True)
        if self.directory.exists() and not any(self.directory.iterdir()):
            self.directory.rmdir()

    def log_paths(self) -> list[Path]:
        """The logs that exist."""
        return [one.log_path for one in self.processes() if one.log_path.exists()]

    def data_paths(self) -> list[Path]:
        """The data directories of all processes."""
        return [process.data_path for process in self.processes()]

    def data_path(self, name: str) -> Path:
        """The data directory of a process."""
        return self.process(name).data_path

    def record(self, name: str) -> dict[str, Any]:
        """What is known of the last start of a process."""
        found: dict[str, Any] = self._record["processes"].get(name, {})
        return found

    def reap(self, name: str) -> None:
        """Collects the exit status of a child that ended, so that its pid is free again."""
        child = self._children.get(name)
        if child is not None and child.poll() is not None:
            del self._children[name]

    def _check_alive(self) -> None:
        for process in self.processes():
            self.reap(process.name)
            if not process.running:
                raise ClusterNotReady(
                    f"{process.name} has ended: {process.last_words()}",
                    {"log": str(process.log_path)},
                )

    def _spawn(self, name: str) -> None:
        self.reap(name)
        process = self.process(name)
        process.log_path.parent.mkdir(parents=True, exist_ok=True)
        process.data_path.mkdir(mode=0o700, parents=True, exist_ok=True)
        package_root = str(Path(__file__).resolve().parents[1] / "src")
        if not Path(package_root, "firepond").is_dir():
            package_root = str(Path(__file__).parents[2])
        paths = [package_root, os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
        with process.log_path.open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "firepond.fs.cli", *self._arguments(name)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self._children[name] = child
        self._record["processes"][name] = {"pid": child.pid, "start_ticks": _start_ticks(child.pid)}
        self._write()

    def _arguments(self, name: str) -> list[str]:
        role = name.partition("-")[0]
        port = self._record["manager_port"]
        settings = [
            f"node.data_dir={self.directory / name}",
            f"node.admin_port={port if role == 'manager' else 0}",
            f"cluster.managers=127.0.0.1:{port}",
        ]
        if role == "manager":
            settings.append(f"manager.replicas={self._record['replica_count']}")
            settings.append(f"manager.storage_nodes_min={self._record['storage_count']}")
        if name in self._record["disks"]:
            settings.append(f"storage.disks={','.join(self._record['disks'][name])}")
        arguments = ["serve", "--roles", role]
        for setting in [*settings, *self._record["settings"]]:
            arguments += ["--set", setting]
        return arguments

    def _write(self) -> None:
        draft = self._file.with_suffix(".tmp")
        draft.write_text(json.dumps({**self._record, "address": self.address}, indent=2))
        draft.replace(self._file)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One `up` or `down` at a time; sees what an earlier one wrote."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / f"{FILE_NAME}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._file.exists():
                self._record = _read(self._file)
            yield


def _read(file: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(file.read_text())
        if record["format"] != _FORMAT:
            raise ValueError(f"format {record['format']} is not known")
        return record
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigInvalid(
            f"not a cluster file: {error}", {"key": FILE_NAME, "file": str(file)}
        ) from None


def _start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
