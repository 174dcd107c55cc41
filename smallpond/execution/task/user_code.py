"""Which code is the user's, and what of it a function imports.

Code of Python, of installed packages and of this package is the library: it counts by version. All
other modules are the user's. A module that is used as a whole (`import helpers`) counts with its
source file, and so do the user's modules that it uses itself: an edit anywhere in them is seen.
"""

from __future__ import annotations

import functools
import importlib.machinery
import os
import site
import sys
import sysconfig
import types
from collections.abc import Iterator


@functools.cache
def _library_roots() -> tuple[str, ...]:
    roots = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    roots.update(site.getsitepackages() if hasattr(site, "getsitepackages") else ())
    return tuple(os.path.realpath(root) + os.sep for root in roots if root)


def _is_library_file(path: str) -> bool:
    return os.path.realpath(path).startswith(_library_roots())


@functools.cache
def is_library(module_name: str) -> bool:
    """Whether a module is of Python, of an installed package, or of this package.

    The answer is the same whether or not the module has been imported.
    """
    top = module_name.partition(".")[0]
    if top == "__main__":
        return False
    if top == "smallpond" or top in sys.stdlib_module_names:
        return True
    module = sys.modules.get(module_name) or sys.modules.get(top)
    path = getattr(module, "__file__", None)
    if path is None:
        path = _found_at(top)
    return path is not None and _is_library_file(path)


def _found_at(top: str) -> str | None:
    try:
        spec = importlib.machinery.PathFinder.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    return spec.origin or next(iter(spec.submodule_search_locations or ()), None)


def names_of(code: types.CodeType) -> set[str]:
    """The names that code uses, with those of the functions inside of it."""
    names = set(code.co_names)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            names |= names_of(const)
    return names


def imports_of(code: types.CodeType) -> list[str]:
    """The modules that code imports when it runs, nested functions included."""
    import dis

    found = {one.argval for one in dis.get_instructions(code) if one.opname == "IMPORT_NAME"}
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            found.update(imports_of(const))
    return sorted(str(name) for name in found)


def module_files(name: str) -> list[str]:
    """The files of the user's code behind a module: its own, and those of what it imports.

    Found by reading sources, so that nothing is imported that the driver does not need itself.
    """
    found: dict[str, None] = {}
    stack = [name]
    while stack:
        one = stack.pop()
        path = None if is_library(one) else _source_of(one)
        if path is None or path in found or _is_library_file(path):
            continue
        found[path] = None
        try:
            with open(path, "rb") as file:
                code = compile(file.read(), path, "exec", dont_inherit=True)
        except (OSError, SyntaxError, ValueError):
            continue
        package = one if os.path.basename(path) == "__init__.py" else one.rpartition(".")[0]
        stack.extend(_candidates(code, package))
    return sorted(found)


def _candidates(code: types.CodeType, package: str) -> Iterator[str]:
    """What the imports in code may mean: absolute, relative, and members that are modules."""
    names = [name for name in names_of(code) if name.isidentifier()]
    for name in [*imports_of(code), ""]:
        for base in filter(None, (name, ".".join(filter(None, (package, name))))):
            source = _source_of(base)
            if source is not None and not _is_library_file(source):
                yield base
                yield from (f"{base}.{member}" for member in names)


@functools.lru_cache(maxsize=4096)
def _source_of(name: str) -> str | None:
    """The source file of a module, which is not imported for this."""
    module = sys.modules.get(name)
    if module is not None:
        path = getattr(module, "__file__", None)
        return path if path is not None and path.endswith(".py") else None
    folders = None
    spec = None
    for end in (index for index, mark in enumerate(name + ".") if mark == "."):
        try:
            spec = importlib.machinery.PathFinder.find_spec(name[:end], folders)
        except (ImportError, ValueError, KeyError, AttributeError):
            return None
        if spec is None:
            return None
        folders = spec.submodule_search_locations
    origin = spec.origin if spec is not None else None
    return origin if origin is not None and origin.endswith(".py") else None
