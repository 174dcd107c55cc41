"""The report of a failed task: what its user needs in order to mend it.

The line of the user's script that made the node, the task and its partition, its input files, the
root cause (the innermost exception, where it happened in the user's code) and the command that runs
this task alone, once it has been dumped (`Task.dump`).
"""

from __future__ import annotations

import linecache
import os
import re
import shlex
import sys
from collections.abc import Iterator
from typing import Any

from smallpond.show.units import bytes_text, plural, seconds_text

INPUT_FILES_SHOWN = 5
CAUSE_LINES_MAX = 12
# The package may be reached through a link; both spellings are its own.
OWN_FOLDERS = tuple(
    os.path.dirname(os.path.dirname(path)) + os.sep
    for path in (os.path.abspath(__file__), os.path.realpath(__file__))
)
NEXT_IN_CHAIN = re.compile(
    r"^(?:The above exception was the direct cause|During handling of the above)", re.MULTILINE
)
FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>.+)$')


def failure_report(
    task: Any, dump_path: str | None = None, error: BaseException | None = None
) -> str:
    """The report of a task that failed; `dump_path` is where it was dumped, if it was.

    `error` is what ended the job where that is not the task's own exception.
    """
    error = error or task.exception
    rows = [("made at", _location_text(task.location))]
    partition = [
        str(info)
        for info in task.partition_infos
        if info.dimension != info.toplevel_dimension or info.npartitions > 1
    ]
    rows.append(("partition", ", ".join(partition) or "the only one"))
    rows.append(("inputs", _inputs_text(task)))
    rows.append(("limits", _limits_text(task)))
    worker = getattr(task, "exec_id", None)
    if worker and worker != "unknown":
        rows.append(("ran on", f"{worker}, {seconds_text(task.elapsed_time)}"))
    if error is not None:
        rows += _error_rows(error)
        place = user_frame(error)
        if place is not None:
            rows.append(("raised at", _source_text(*place)))
    path = dump_path or dumped_path(task)
    if path is not None:
        rows.append(("run it alone", replay_command(path)))
    logs = getattr(task.ctx, "log_root", None)
    if logs:
        rows.append(("logs", logs))
    width = max(len(name) for name, _ in rows)
    gap = "\n" + " " * (width + 4)
    body = (f"  {name.ljust(width)}  {text.replace(chr(10), gap)}" for name, text in rows)
    return "\n".join([_headline(task, error), *body])


def replay_command(path: str) -> str:
    """The shell command that runs a dumped task as this Python would, with the same modules."""
    own = (sys.prefix + os.sep, sys.base_prefix + os.sep)
    folders = [one for one in map(os.path.abspath, sys.path) if not one.startswith(own)]
    folders = [one for one in dict.fromkeys(folders) if os.path.isdir(one)]
    command = [sys.executable, "-m", "smallpond.execution.task", path]
    if folders:
        command = ["env", f"PYTHONPATH={os.pathsep.join(folders)}", *command]
    return shlex.join(command)


def dumped_path(task: Any) -> str | None:
    """Where `Task.dump` put the task, if the file is there."""
    path = os.path.join(task.ctx.temp_root, task.output_dirname, f"{task.key}.pickle")
    return path if os.path.exists(path) else None


def root_cause(error: BaseException) -> BaseException:
    """The innermost exception of a chain."""
    seen = {id(error)}
    while True:
        inner = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if inner is None or id(inner) in seen:
            return error
        seen.add(id(inner))
        error = inner


def user_frame(error: BaseException) -> tuple[str, int] | None:
    """The innermost line of code outside this package and installed ones, if there is one."""
    for one in (root_cause(error), error):
        frames = [frame for frame in _frames(one) if _is_users(frame[0])]
        if frames:
            return frames[-1]
    return None


def _frames(error: BaseException) -> Iterator[tuple[str, int]]:
    """Lines of the traceback; of its text, where the error came from another process."""
    trace = error.__traceback__
    if trace is None:
        for line in _cause_text(error):
            match = FRAME.match(line)
            if match:
                yield match["file"], int(match["line"])
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next


def _cause_text(error: BaseException) -> list[str]:
    """The innermost exception's part of a traceback that travelled as text."""
    text = str(getattr(error, "task_traceback", "") or "")
    return NEXT_IN_CHAIN.split(text, maxsplit=1)[0].rstrip().splitlines()


def _is_users(path: str) -> bool:
    foreign = ("<frozen", sys.base_prefix + "/lib", *OWN_FOLDERS)
    # Compiled packages name their sources, which are not here.
    installed = "site-packages" in path or path.endswith((".pyx", ".pxi"))
    return not path.startswith(foreign) and not installed


def _headline(task: Any, error: BaseException | None) -> str:
    tries = plural(int(task.retry_count) + 1, "try")
    what = "without an exception" if error is None else _one_line(error)
    return f"{task.key} of node {task.node_id!s} failed after {tries}: {what}"


def _one_line(error: BaseException) -> str:
    lines = _message_lines(error)
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _error_rows(error: BaseException) -> Iterator[tuple[str, str]]:
    """What the headline does not say of the error, and then of its root cause: no line twice."""
    said = set(_message_lines(error)[:1])
    for name, lines in (
        ("error", _shortened(_message_lines(error))),
        ("root cause", _cause_lines(error)),
    ):
        new = [one for one in lines if one.strip() and not {one, one.partition(": ")[2]} & said]
        said.update(lines)
        if new:
            yield name, "\n".join(new)


def _message_lines(error: BaseException) -> list[str]:
    return str(error).strip().splitlines()


def _shortened(lines: list[str]) -> list[str]:
    kept = lines[:CAUSE_LINES_MAX]
    if len(lines) > len(kept):
        kept.append(f"... and {plural(len(lines) - len(kept), 'more line')}")
    return kept


def _cause_lines(error: BaseException) -> list[str]:
    cause = root_cause(error)
    kind = f"{type(cause).__module__}.{type(cause).__qualname__}".removeprefix("builtins.")
    lines = f"{kind}: {cause}".strip().splitlines()
    travelled = _cause_text(cause) if cause.__traceback__ is None else []
    frames = [index for index, line in enumerate(travelled) if line.startswith("  ")]
    if frames and travelled[frames[-1] + 1 :]:
        # The chain did not travel, its text did: what stands below the innermost frame.
        lines = travelled[frames[-1] + 1 :]
    notes = getattr(cause, "__notes__", None) or []
    return _shortened(lines) + [line for note in notes for line in str(note).splitlines()]


def _location_text(location: str | None) -> str:
    if not location:
        return "an unknown line"
    file, _, line = location.rpartition(":")
    return _source_text(file, int(line)) if line.isdigit() else location


def _source_text(file: str, line: int) -> str:
    source = linecache.getline(file, line).strip()
    return f"{file}:{line}" + (f"\n    {source}" if source else "")


def _inputs_text(task: Any) -> str:
    datasets = getattr(task, "input_datasets", None) or []
    paths: list[str] = []
    troubles: list[str] = []
    for dataset in datasets:
        try:
            paths += list(dataset.resolved_paths)
        except Exception as error:
            # A report must come out even if what failed is finding the files.
            troubles.append(f"{type(dataset).__name__}: {_one_line(error)}")
    if not paths and not troubles:
        return "none" if not datasets else "data in memory"
    size = sum(os.path.getsize(path) for path in paths if os.path.isfile(path))
    lines = [f"{plural(len(paths), 'file')}, {bytes_text(size)}", *paths[:INPUT_FILES_SHOWN]]
    if len(paths) > INPUT_FILES_SHOWN:
        lines.append(f"... and {len(paths) - INPUT_FILES_SHOWN} more")
    return "\n".join((lines if paths else []) + troubles)


def _limits_text(task: Any) -> str:
    parts = [plural(int(task.cpu_limit), "CPU")]
    if task.gpu_limit:
        parts.append(f"{task.gpu_limit:g} GPU")
    if task.memory_limit:
        parts.append(bytes_text(task.memory_limit))
    return ", ".join(parts)
