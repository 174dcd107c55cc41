"""Starting executors on a platform, with the environment they need.

An executor is `driver.py ... executor` with the path of the job's context; everything else it finds
there. It gets this process's import path, because user functions of imported modules travel by
name; and an allocator through LD_PRELOAD when the library is found. A missing allocator costs some
memory and no correctness, so it is a warning.
"""

from __future__ import annotations

import ctypes.util
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smallpond.common import InvalidArgument
from smallpond.execution.executor_start import SHARE_VARIABLE
from smallpond.platform import Platform

if TYPE_CHECKING:
    from smallpond.execution.task import RuntimeContext

logger = logging.getLogger(__name__)

ALLOCATORS: dict[str, tuple[str, ...]] = {
    "system": (),
    "jemalloc": ("libjemalloc.so.2", "libjemalloc.so"),
    "mimalloc": ("libmimalloc.so.2.1", "libmimalloc.so.2", "libmimalloc.so.3", "libmimalloc.so"),
}
LIBRARY_FOLDERS = ("/usr/local/lib", "/usr/lib", "/usr/lib64", "/lib", "/opt/homebrew/lib")
DRIVER = Path(__file__).parents[1] / "driver.py"


def library_folders() -> Iterable[Path]:
    """Where shared libraries are looked for, the environment's wishes first."""
    for folder in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep):
        if folder:
            yield Path(folder)
    yield Path(sys.exec_prefix, "lib")
    for name in LIBRARY_FOLDERS:
        yield Path(name)
        yield from Path(name).glob("*-linux-gnu")


def allocator_path(memory_allocator: str) -> str | None:
    """The library of an allocator for LD_PRELOAD; None for the system's, or when it is missing."""
    if memory_allocator not in ALLOCATORS:
        raise InvalidArgument(
            f"memory_allocator={memory_allocator!r}: choose one of {', '.join(ALLOCATORS)}"
        )
    for name in ALLOCATORS[memory_allocator]:
        for folder in library_folders():
            if (folder / name).is_file():
                return str(folder / name)
        # Before any folder was known to hold it, it may have been put beside the commands.
        if on_path := shutil.which(name, mode=os.F_OK):
            return on_path
    found = ctypes.util.find_library(memory_allocator) if ALLOCATORS[memory_allocator] else None
    if found is None and memory_allocator != "system":
        logger.info("%s is not installed: executors use the system allocator", memory_allocator)
    return found


def allocator_environment(memory_allocator: str, purge_delay_ms: int) -> dict[str, str]:
    """The variables that put an allocator into a process and tune it."""
    jemalloc_options = (
        "percpu_arena:percpu,background_thread:true,metadata_thp:auto,"
        f"dirty_decay_ms:{purge_delay_ms},muzzy_decay_ms:{purge_delay_ms},"
        "oversize_threshold:0,lg_tcache_max:16"
    )
    variables = {
        "MALLOC_CONF": jemalloc_options,
        "MIMALLOC_PURGE_DELAY": str(purge_delay_ms),
    }
    if library := allocator_path(memory_allocator):
        variables["LD_PRELOAD"] = library
    return variables


def import_environment() -> dict[str, str]:
    """The variables that let another Python import what this one can."""
    package_parent = str(Path(__file__).absolute().parents[3])
    entries = [str(Path(entry or ".").absolute()) for entry in sys.path]
    kept = [entry for entry in entries if Path(entry).is_dir() and not _is_of_python(entry)]
    unique = dict.fromkeys([*kept, package_parent])
    # Without PYTHONSAFEPATH the folder of driver.py comes first, where `queue` hides Python's.
    return {"PYTHONPATH": os.pathsep.join(unique), "PYTHONSAFEPATH": "1"}


def _is_of_python(entry: str) -> bool:
    """Whether any Python of this kind has the entry by itself."""
    return Path(entry).is_relative_to(Path(os.__file__).parent) or Path(entry).is_relative_to(
        Path(sys.prefix)
    )


class ExecutorLauncher:
    """Starts the executors of one job, and others for those that fall silent."""

    # A machine that kills every executor must not be fed with them for ever.
    replacements_per_executor = 3

    def __init__(
        self,
        ctx: RuntimeContext,
        platform: Platform,
        memory_allocator: str = "system",
        memory_purge_delay: int = 10000,
        extra_opts: Mapping[str, Any] | None = None,
    ) -> None:
        self.ctx = ctx
        self.platform = platform
        self.variables = {
            **allocator_environment(memory_allocator, int(memory_purge_delay)),
            **import_environment(),
        }
        if type(platform) is Platform:
            # All of them are on this machine, which has its memory only once.
            self.variables[SHARE_VARIABLE] = str(max(1, ctx.num_executors))
        self.extra_opts = dict(extra_opts or {})
        self.job_names: list[str] = []
        self.replacements_left = 0

    def start(self, count: int) -> None:
        """Start that many executors."""
        if count <= 0:
            return
        self.job_names += self.platform.start_job(
            num_nodes=count,
            entrypoint=str(DRIVER),
            args=self._args(),
            envs=self.variables,
            extra_opts=self.extra_opts,
        )
        self.replacements_left += count * self.replacements_per_executor
        logger.info("started %d executors on %s: %s", count, self.platform, self.job_names)

    def _args(self) -> list[str]:
        return [
            *("--job_id", str(self.ctx.job_id)),
            *("--data_root", str(self.ctx.data_root)),
            *("--runtime_ctx_path", self.ctx.runtime_ctx_path),
            "executor",
        ]

    def command_line(self) -> str:
        """What a person would type to be an executor of this job."""
        return shlex.join(["python", str(DRIVER), *self._args()])

    def all_ended(self) -> bool:
        """Whether everything that was started is known to have ended."""
        known = self.platform._processes
        if not self.job_names or any(name not in known for name in self.job_names):
            # Started by a platform of the user's, which has other means than processes.
            return False
        return not any(self.platform.is_running(name) for name in self.job_names)

    def replace(self, exec_id: str) -> bool:
        """Start another executor for one that fell silent; False when it was done too often."""
        if self.replacements_left <= 0:
            logger.error("executor %s is not replaced: too many were", exec_id)
            return False
        left = self.replacements_left - 1
        logger.warning("starting another executor for %s", exec_id)
        self.start(1)
        self.replacements_left = left
        return True

    def stop(self) -> None:
        """Stop what was started and still runs."""
        names, self.job_names = self.job_names, []
        for name in names:
            try:
                self.platform.stop_job(name)
            except ProcessLookupError:
                logger.debug("job %s has ended already", name)
            except Exception as error:
                logger.warning("cannot stop the platform's job %s: %s", name, error)
