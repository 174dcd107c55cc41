"""`firepond doctor`: can this host run firepond well, and is the cluster in order?

Each check is one function that returns a finding: ok, warn or fail, what was seen, what to do.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import platform
import resource
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from firepond.fs.cli.options import AddressOption, JsonOption, manager_client
from firepond.fs.errors import FirepondError

FREE_BYTES_WANTED = 10 << 30
FREE_SHARE_WANTED = 0.05
OPEN_FILES_WANTED = 65_536
IO_URING_SETUP = 425  # The same number on every architecture.


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    verdict: str
    seen: str
    next_step: str = ""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(doctor)


def doctor(address: AddressOption = None, as_json: JsonOption = False) -> int:
    """Check this host, and the cluster if one is reachable; 1 when something must be mended."""
    findings = [check() for check in HOST_CHECKS]
    findings += check_cluster(address)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        for one in findings:
            step = f" -> {one.next_step}" if one.next_step else ""
            print(f"{one.verdict:<5} {one.check:<12} {one.seen}{step}")
    return int(any(finding.verdict == "fail" for finding in findings))


def check_python() -> Finding:
    """The interpreter."""
    seen = f"{platform.python_version()} on {platform.system()} {platform.release()}"
    if sys.version_info < (3, 11) or platform.system() != "Linux":
        return Finding("python", "fail", seen, "use Python 3.11 or newer on Linux")
    return Finding("python", "ok", seen)


def check_native() -> Finding:
    """The native module loads."""
    try:
        from firepond import _native
    except ImportError as error:
        return Finding("native", "fail", str(error), "build it: `make build`")
    return Finding("native", "ok", f"version {_native.__version__}")


def check_fuse() -> Finding:
    """Mounting works."""
    if not Path("/dev/fuse").exists():
        return Finding("fuse", "warn", "/dev/fuse is missing", "`modprobe fuse`, for mounts only")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return Finding("fuse", "warn", "no access to /dev/fuse", "mount as root or allow it")
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        return Finding("fuse", "warn", "fusermount3 is missing", "install the package fuse3")
    return Finding("fuse", "ok", "/dev/fuse can be used")


def check_io_uring() -> Finding:
    """The kernel gives io_uring instances."""
    libc = ctypes.CDLL(None, use_errno=True)
    parameters = ctypes.create_string_buffer(120)
    descriptor = libc.syscall(IO_URING_SETUP, 1, parameters)
    if descriptor < 0:
        seen = f"refused: {os.strerror(ctypes.get_errno())}"
        step = "positional I/O is used; set kernel.io_uring_disabled=0 for more speed"
        return Finding("io_uring", "warn", seen, step)
    os.close(descriptor)
    return Finding("io_uring", "ok", "available")


def check_files() -> Finding:
    """Enough open files are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < OPEN_FILES_WANTED:
        step = f"`ulimit -n {OPEN_FILES_WANTED}` for clusters of more than a few nodes"
        return Finding("open files", "warn", f"limit {soft} (hard {hard})", step)
    return Finding("open files", "ok", f"limit {soft}")


def check_ports() -> Finding:
    """Loopback works and ports can be taken."""
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
    except OSError as error:
        return Finding("ports", "fail", str(error), "allow loopback sockets")
    return Finding("ports", "ok", "loopback ports can be taken")


def check_space() -> Finding:
    """Room for data here."""
    usage = shutil.disk_usage(".")
    seen = f"{usage.free / (1 << 30):.1f} of {usage.total / (1 << 30):.1f} GiB free here"
    if usage.free < FREE_BYTES_WANTED:
        return Finding("disk space", "warn", seen, "make room, or use `firepond up --dir`")
    return Finding("disk space", "ok", seen)


HOST_CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_native,
    check_fuse,
    check_io_uring,
    check_files,
    check_ports,
    check_space,
)


def check_chunks(found: dict[str, Any]) -> list[Finding]:
    """What the scrubber and reads found and nobody could mend."""
    findings = []
    for chain in found["chains"]:
        for target in chain["targets"]:
            count = (target["scrub"] or {}).get("unrepairable_count", 0)
            if count:
                seen = f"{count} bad chunks of target {target['target']} are not mended"
                step = "start the chain's other replicas; the log of the node names the chunks"
                findings.append(Finding(f"chain {chain['id']}", "fail", seen, step))
    return findings


def check_cluster(address: str | None) -> list[Finding]:
    """What the manager says, if there is one."""
    try:
        found = manager_client(address).get("/v1/status")
    except FirepondError as error:
        verdict = "fail" if address else "warn"
        return [Finding("cluster", verdict, error.message or error.summary, error.next_step)]
    findings = check_chunks(found)
    if found["ready"]:
        findings.append(Finding("cluster", "ok", f"ready, term {found['term']}"))
    else:
        step = "start the missing processes; `firepond up` does for a cluster on this machine"
        findings.append(Finding("cluster", "fail", f"waits for {found['waiting_for']}", step))
    for node in found["nodes"]:
        name = f"node {node['id']}"
        if not node["alive"]:
            step = f"start it again; it was {','.join(node['roles'])} at {node['admin_address']}"
            findings.append(Finding(name, "fail", "dead", step))
        for disk in node["disks"]:
            if disk.get("failed"):
                findings.append(Finding(name, "fail", disk["failed"], f"replace {disk['path']}"))
            elif disk.get("free_bytes", math.inf) < disk.get("total_bytes", 0) * FREE_SHARE_WANTED:
                seen = f"{disk['free_bytes'] / (1 << 30):.1f} GiB free on {disk['path']}"
                step = "remove data, or add storage nodes and `firepond admin extend`"
                findings.append(Finding(name, "warn", seen, step))
    odd = {k: v for k, v in found["target_states"].items() if k != "serving"}
    if odd:
        seen = ", ".join(f"{count} targets {state}" for state, count in odd.items())
        findings.append(Finding("chains", "warn", seen, "watch `firepond status --watch`"))
    return findings
