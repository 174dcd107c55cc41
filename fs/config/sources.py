"""Where settings come from: defaults, a TOML file, the environment, the command line; later wins.

Owns: names in each source, the refusal of unknown keys with near matches, and who set what.
Environment: `FIREPOND_SECTION__KEY`. Command line: `section.key=value`.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError

from firepond.fs.config.models import Settings
from firepond.fs.errors import ConfigInvalid

ENVIRONMENT_PREFIX = "FIREPOND_"


@dataclass(frozen=True)
class Origin:
    """One value of one source."""

    value: Any
    source: str


@dataclass(frozen=True)
class Loaded:
    """Settings, and where each key that is not a default came from."""

    settings: Settings
    sources: Mapping[str, str]


@dataclass(frozen=True)
class SettingRow:
    """One key, for people."""

    key: str
    default: Any
    value: Any
    source: str
    description: str


def load(
    file: Path | None, environment: Mapping[str, str], assignments: Iterable[str] = ()
) -> Loaded:
    """Merges all sources and checks them; `assignments` are `section.key=value`.

    Raises ConfigInvalid naming the key, its source and near matches.
    """
    found: dict[str, Origin] = {}
    if file is not None:
        found.update(_from_file(file))
    found.update(_from_environment(environment))
    found.update(_from_assignments(assignments))
    nested: dict[str, dict[str, Any]] = {}
    for key, origin in found.items():
        section, _, name = key.partition(".")
        nested.setdefault(section, {})[name] = origin.value
    try:
        settings = Settings.model_validate(nested)
    except ValidationError as error:
        raise _refusal(error, found) from None
    return Loaded(settings, {key: origin.source for key, origin in found.items()})


def known_keys() -> dict[str, Any]:
    """Every key as `section.key` with the pydantic field behind it."""
    keys: dict[str, Any] = {}
    for section, field in Settings.model_fields.items():
        assert isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        for name, inner in field.annotation.model_fields.items():
            keys[f"{section}.{name}"] = inner
    return keys


def rows(loaded: Loaded) -> list[SettingRow]:
    """All keys with default, value, source and meaning, in the order of the models."""
    defaults = Settings()
    found = []
    for key, field in known_keys().items():
        section, _, name = key.partition(".")
        found.append(
            SettingRow(
                key=key,
                default=getattr(getattr(defaults, section), name),
                value=getattr(getattr(loaded.settings, section), name),
                source=loaded.sources.get(key, "default"),
                description=field.description or "",
            )
        )
    return found


def _from_file(file: Path) -> dict[str, Origin]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigInvalid(f"the configuration file cannot be read: {error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"not a TOML file: {error}", {"file": str(file)}) from None
    found: dict[str, Origin] = {}
    for section, content in document.items():
        if section not in Settings.model_fields:
            raise _unknown(section, list(Settings.model_fields), f"file {file}")
        if not isinstance(content, dict):
            raise ConfigInvalid("a section must be a table", {"key": section, "file": str(file)})
        for name, value in content.items():
            key = _checked(f"{section}.{name}", f"file {file}")
            found[key] = Origin(value, f"file {file}")
    return found


def _from_environment(environment: Mapping[str, str]) -> dict[str, Origin]:
    found: dict[str, Origin] = {}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        section, separator, name = variable.removeprefix(ENVIRONMENT_PREFIX).partition("__")
        if not separator:
            _refuse_near_miss(variable)
            continue
        key = _checked(f"{section}.{name}".lower(), f"environment {variable}")
        found[key] = Origin(_parse(key, text), f"environment {variable}")
    return found


def _refuse_near_miss(variable: str) -> None:
    """A name such as FIREPOND_STORAGE_CACHE_BYTES must not be ignored in silence."""
    body = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
    for key in known_keys():
        section, _, name = key.partition(".")
        if body in (f"{section}_{name}", f"{section}{name}"):
            meant = f"{ENVIRONMENT_PREFIX}{section.upper()}__{name.upper()}"
            raise ConfigInvalid("unknown variable", {"key": variable, "did_you_mean": meant})


def _from_assignments(assignments: Iterable[str]) -> dict[str, Origin]:
    found: dict[str, Origin] = {}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator:
            raise ConfigInvalid("write section.key=value", {"key": assignment})
        key = _checked(key.strip(), "command line")
        found[key] = Origin(_parse(key, text.strip()), "command line")
    return found


def _parse(key: str, text: str) -> Any:
    """Text as the field wants it: lists are separated by commas, the rest pydantic converts."""
    if get_origin(known_keys()[key].annotation) is list:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _checked(key: str, source: str) -> str:
    keys = known_keys()
    if key not in keys:
        raise _unknown(key, list(keys), source)
    return key


def _unknown(key: str, candidates: list[str], source: str) -> ConfigInvalid:
    context = {"key": key, "source": source}
    near = difflib.get_close_matches(key, candidates, n=3, cutoff=0.6)
    if not near:
        name = key.rpartition(".")[2]
        near = [one for one in candidates if one.rpartition(".")[2] == name]
    if near:
        context["did_you_mean"] = " or ".join(near)
    return ConfigInvalid("unknown key", context)


def _refusal(error: ValidationError, found: Mapping[str, Origin]) -> ConfigInvalid:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"][:2])
    context = {"key": key}
    if key in found:
        context["source"] = found[key].source
        context["value"] = str(found[key].value)
    return ConfigInvalid(first["msg"].removeprefix("Value error, "), context)
