"""The identity of a task: a digest of everything its result depends on.

That is: the class and its code, the user's functions (bytecode, constants, defaults, closures, and
what they reach in the user's own modules, recursively), the parameters, the partition, and the
identities of the inputs; for files that a plan reads, their paths, sizes and times of change. A new
run uses an earlier result only for an equal identity, so a result of other code is never returned.

Where something cannot be digested the same way twice, the digest differs and the task runs again:
the safe mistake. Limits, names of attempts and positions in the file of source code do not count.
Code of installed packages counts by the version of Python and of this package (`user_code.py`).
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import pickle
import sys
import types
from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any

from smallpond.execution.task.user_code import imports_of, is_library, module_files, names_of

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.plan import ExecutionPlan

# Attributes that say how or where a task runs, not what it computes.
_NOT_PARAMETERS = frozenset(
    [
        "ctx",
        "id",
        "key",
        "node_id",
        "sched_epoch",
        "input_deps",
        "output_deps",
        "input_datasets",
        "status",
        "start_time",
        "finish_time",
        "retry_count",
        "fail_count",
        "exception",
        "exec_id",
        "exec_cq",
        "location",
        "perf_metrics",
        "perf_profile",
        "runtime_state",
        "low_memory",
        "_cpu_limit",
        "_gpu_limit",
        "_memory_limit",
        "_cpu_boost",
        "_memory_boost",
        "_numa_node",
        "_local_gpu",
        "_np_randgen",
        "_py_randgen",
        "_timer_start",
        "_temp_made",
        "_temp_output",
        "_dataset_ref",
        "_identity",
        "_output_files",
        "_partition_infos",
        "__dict__",
        "__weakref__",
    ]
)
_SCALARS = frozenset([type(None), bool, int, float, complex, str, bytes, bytearray])
# Members of classes that Python keeps for itself, some of them only after first use.
_NOT_CODE = frozenset(
    ["__dict__", "__weakref__", "__doc__", "__module__", "__slots__", "__slotnames__"]
)
# What data sets remember for speed, filled in or not as it happens.
_DATASET_CACHES = frozenset(
    [
        "_resolved_paths",
        "_absolute_paths",
        "_resolved_num_rows",
        "_resolved_row_ranges",
        "_partitions",
        "_sniffed",
        "_hive",
        "_table",
        "skipped_files",
    ]
)


def _file_state(path: str) -> tuple[str, int, int]:
    try:
        stat = os.stat(path)
    except OSError:
        return path, -1, -1
    return path, stat.st_size, stat.st_mtime_ns


class _Pickler(pickle.Pickler):
    """Pickles code of the user by digest, where pickle would only write its name."""

    def __init__(self, digest: Digest, file: io.BytesIO, buffers: list[Any]) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffers.append)
        self._digest = digest

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, types.FunctionType):
            return self._digest.of(obj)
        if isinstance(obj, type) and not is_library(obj.__module__):
            return self._digest.of(obj)
        if callable(obj) and hasattr(obj, "__wrapped__"):
            return self._digest.of(obj.__wrapped__)
        return None


class Digest:
    """Hashes values by structure; shared objects are hashed once, cycles end at their first node.

    One instance serves all tasks of a plan, so that the code of a node is looked at once.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, bytes]] = {}
        self._open: dict[int, int] = {}
        self._modules: dict[str, bytes] = {}

    def of(self, value: Any) -> bytes:
        """The digest of any value."""
        if isinstance(value, (bytes, bytearray)) and len(value) > 64:
            return b"bytes:" + hashlib.sha256(value).digest()
        if type(value) in _SCALARS:
            return f"{type(value).__name__}:{value!r};".encode()
        known = self._known.get(id(value))
        if known is not None:
            return known[1]
        if id(value) in self._open:
            return f"cycle:{len(self._open) - self._open[id(value)]};".encode()
        self._open[id(value)] = len(self._open)
        try:
            digest = hashlib.sha256(self._structure(value)).digest()
        finally:
            del self._open[id(value)]
        if not self._open or isinstance(value, (types.FunctionType, type)):
            # Within a cycle the digest depends on where one came in, so only wholes are kept.
            self._known[id(value)] = (value, digest)
        return digest

    def _all(self, tag: str, values: Iterable[Any]) -> bytes:
        return tag.encode() + b"(" + b",".join(self.of(value) for value in values) + b")"

    def _mapping(self, tag: str, mapping: dict[Any, Any]) -> bytes:
        return self._all(tag, (part for item in mapping.items() for part in item))

    def _structure(self, value: Any) -> bytes:
        if isinstance(value, (list, tuple)):
            return self._all(type(value).__qualname__, value)
        if isinstance(value, dict):
            return self._mapping(type(value).__qualname__, value)
        if isinstance(value, (set, frozenset)):
            parts = sorted(self.of(item) for item in value)
            return type(value).__qualname__.encode() + b"{" + b",".join(parts) + b"}"
        if isinstance(value, Enum):
            return self._all("enum", (type(value).__qualname__, value.name))
        if isinstance(value, functools.partial):
            return self._all("partial", (value.func, value.args, value.keywords))
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return self._all("method", (value.__func__, value.__self__))
        if isinstance(value, types.CodeType):
            return self._code(value)
        if isinstance(value, types.ModuleType):
            return self._module(value.__name__, str(getattr(value, "__version__", "")))
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, (classmethod, staticmethod)):
            return self._all("wrapped", (type(value).__name__, value.__func__))
        if isinstance(value, property):
            return self._all("property", (value.fget, value.fset, value.fdel))
        return self._object(value)

    def _function(self, function: types.FunctionType) -> bytes:
        cells = []
        for cell in function.__closure__ or ():
            try:
                cells.append(cell.cell_contents)
            except ValueError:
                cells.append("empty cell")
        if is_library(function.__module__ or "__main__"):
            # A wrapper of a library may hold a function of the user.
            return self._all("library", (function.__module__, function.__qualname__, cells))
        used = sorted(names_of(function.__code__))
        reached = {
            name: function.__globals__[name] for name in used if name in function.__globals__
        }
        defaults = (function.__defaults__, function.__kwdefaults__)
        imported = {name: self._module(name) for name in imports_of(function.__code__)}
        return self._all("function", (function.__code__, defaults, cells, reached, imported))

    def _module(self, name: str, version: str = "") -> bytes:
        """A module used as a whole: a library by its version, the user's own by its sources."""
        if is_library(name):
            return self._all("module", (name, version))
        if name not in self._modules:
            contents = []
            for path in module_files(name):
                with open(path, "rb") as file:
                    contents.append(hashlib.sha256(file.read()).digest())
            self._modules[name] = self._all("sources", (name, contents))
        return self._modules[name]

    def _code(self, code: types.CodeType) -> bytes:
        parts = (code.co_code, code.co_consts, code.co_names, code.co_varnames, code.co_freevars)
        return self._all(f"code {sys.version_info[:2]}", (*parts, code.co_flags))

    def _class(self, cls: type) -> bytes:
        name = (cls.__module__, cls.__qualname__)
        if is_library(cls.__module__):
            return self._all("library class", name)
        members = {
            key: member
            for key, member in sorted(vars(cls).items())
            if key not in _NOT_CODE
            and not isinstance(member, (types.MemberDescriptorType, types.GetSetDescriptorType))
            and not key.startswith(("__abc", "_abc", "__static_attributes__", "__firstlineno__"))
        }
        return self._all("class", (name, cls.__bases__, members))

    def _object(self, value: Any) -> bytes:
        """An instance: as it says itself, as a data set, by its state, or by its pickle."""
        own = getattr(value, "identity_parts", None)
        if callable(own):
            return self._all("own", (type(value), own()))
        if hasattr(value, "resolved_paths") and hasattr(value, "root_dir"):
            return self._dataset(value)
        if not is_library(type(value).__module__):
            state = _state_of(value)
            if state is not None:
                return self._all("object", (type(value), state))
        return self._pickled(value)

    def _pickled(self, value: Any) -> bytes:
        """By the pickle, with code of the user by its digest and large buffers where they lie."""
        buffers: list[pickle.PickleBuffer] = []
        file = io.BytesIO()
        try:
            _Pickler(self, file, buffers).dump(value)
            parts = [hashlib.sha256(buffer.raw()).digest() for buffer in buffers]
        except Exception:
            # Nothing says what this is: never equal to anything, not even next time.
            return os.urandom(32)
        return self._all("pickle", (type(value), file.getvalue(), parts))

    def _dataset(self, dataset: Any) -> bytes:
        state = _state_of(dataset) or {}
        shown = {key: item for key, item in state.items() if key not in _DATASET_CACHES}
        try:
            files: list[Any] = [_file_state(path) for path in dataset.resolved_paths]
        except Exception:
            # Whoever reads it will say what is wrong with it.
            files = [os.urandom(32)]
        ranges = getattr(dataset, "_resolved_row_ranges", None)
        rows = [(one.path, one.begin, one.end) for one in ranges] if ranges else None
        return self._all("dataset", (type(dataset), shown, files, rows))


def _state_of(value: Any) -> dict[str, Any] | None:
    state: dict[str, Any] = {}
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                state[name] = getattr(value, name)
    if hasattr(value, "__dict__"):
        state.update(vars(value))
    elif not state:
        return None
    return state


@functools.cache
def _slots_of(cls: Any) -> tuple[str, ...]:
    """The slots of a class that are parameters of its tasks."""
    names: set[str] = set()
    for one in cls.__mro__:
        slots = one.__dict__.get("__slots__", ())
        names.update((slots,) if isinstance(slots, str) else slots)
    return tuple(sorted(names - _NOT_PARAMETERS))


def _parameters(task: Task) -> list[tuple[str, Any]]:
    """What was given to the task when it was made, by name."""
    cls: Any = type(task)
    found = [(name, getattr(task, name)) for name in _slots_of(cls) if hasattr(task, name)]
    for name, value in sorted(getattr(task, "__dict__", {}).items()):
        if name not in _NOT_PARAMETERS:
            found.append((name, value))
    return found


@functools.cache
def _version() -> str:
    import smallpond

    return str(getattr(smallpond, "__version__", ""))


def task_identity(task: Task, digest: Digest | None = None) -> str:
    """The identity of one task; its inputs must be objects still, as while planning."""
    digest = digest or Digest()
    total = hashlib.sha256(_version().encode())
    total.update(digest.of(type(task)))
    for name, value in _parameters(task):
        total.update(f";{name}=".encode())
        total.update(digest.of(value))
    for info in task.partition_infos:
        total.update(f";{info.dimension!r}[{info.index}/{info.npartitions}]".encode())
    for dep in task.input_deps.values():
        total.update(f";{dep.identity}".encode())
    return total.hexdigest()


def plan_identities(plan: ExecutionPlan) -> None:
    """Give every task of a plan its identity; equal tasks are told apart by their order."""
    digest = Digest()
    seen: dict[str, int] = {}
    for task in plan.tasks_inputs_first():
        if task._identity is not None:
            seen[task._identity] = seen.get(task._identity, 0) + 1
            continue
        identity = task_identity(task, digest)
        ordinal = seen.get(identity, 0)
        seen[identity] = ordinal + 1
        if ordinal:
            identity = hashlib.sha256(f"{identity} {ordinal}".encode()).hexdigest()
        task._identity = identity
