"""Fills settings classes: environment over the TOML file named by `ANTIPHON_CONFIG` over defaults.

Whatever is unknown or wrong raises `SettingsError`, which names the key and never shows a value (it may be a secret).
An empty variable counts as unset. Sequences are separated by commas in variables; mappings are JSON.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from services.chassis.settings_model import (
    EX_CONFIG,
    ListenAddress,
    ServiceSettings,
    SettingsError,
    SuiteSettings,
    UserPath,
    env,
)

__all__ = [
    "EX_CONFIG",
    "ListenAddress",
    "Row",
    "ServiceSettings",
    "SettingsError",
    "SuiteSettings",
    "UserPath",
    "document",
    "env",
    "load",
]

S = TypeVar("S", bound=ServiceSettings)

ENV_PREFIX = "ANTIPHON_"
CONFIG_VARIABLE = "ANTIPHON_CONFIG"
PARENT_PIPE_VARIABLE = "ANTIPHON_PARENT_PIPE_FD"
SUITE_TABLE = "suite"

PROCESS_VARIABLES = frozenset({CONFIG_VARIABLE, PARENT_PIPE_VARIABLE})
"""Variables that are not settings: where the settings are, and what a parent tells its child."""

KNOWN_SECTIONS = frozenset({"cache", "router", "completion", "edgestore", "edge", "embedding", "offline"})
"""Processes and groups that own a table and the variables with their prefix; each checks its own."""

FOREIGN_PREFIXES = frozenset({"api", "model", "cli", "client", "up", "test", "bench"})
"""Prefixes of variables that no server reads: of the command line, the clients and the test suite."""


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as documentation shows it."""

    env: str
    toml: str
    default: str
    description: str


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where one field is set from, and where its value belongs in the model."""

    env: str
    table: str
    field: str
    path: tuple[str, ...]
    info: FieldInfo


def load(cls: type[S], *, service: str, environ: Mapping[str, str]) -> S:
    """The settings of the process `service`; raises `SettingsError` for the first key that is unknown or wrong."""
    slots = list(_slots(cls, service))
    _refuse_unknown_variables(slots, service, environ)
    tables = _read_tables(environ)
    _refuse_unknown_tables(slots, tables)

    values: dict[str, Any] = {}
    origin: dict[tuple[str, ...], tuple[str, Any]] = {}
    for slot in slots:
        raw: Any
        if text := environ.get(slot.env, ""):
            raw, key = _from_text(slot, text), slot.env
        elif slot.field in tables.get(slot.table, {}):
            raw, key = tables[slot.table][slot.field], f"[{slot.table}] {slot.field}"
        else:
            continue
        target = values
        for part in slot.path[:-1]:
            target = target.setdefault(part, {})
        target[slot.path[-1]] = raw
        origin[slot.path] = (key, environ.get(slot.env) or raw)
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise _first_problem(error, origin, slots) from None


def document(cls: type[ServiceSettings], service: str) -> list[Row]:
    """Every setting that `load` would accept for this process, in the order of declaration."""
    return [
        Row(slot.env, f"[{slot.table}] {slot.field}", _show_default(slot.info), slot.info.description or "")
        for slot in _slots(cls, service)
    ]


def _slots(cls: type[ServiceSettings], service: str) -> Iterator[_Slot]:
    for name, info in cls.model_fields.items():
        group = info.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            for field, inner in group.model_fields.items():
                yield _Slot(_variable(inner, f"{name}_{field}"), name, field, (name, field), inner)
        elif name in SuiteSettings.model_fields:
            yield _Slot(_variable(info, name), SUITE_TABLE, name, (name,), info)
        else:
            yield _Slot(_variable(info, f"{service}_{name}"), service, name, (name,), info)


def _variable(info: FieldInfo, name: str) -> str:
    extra = info.json_schema_extra
    if isinstance(extra, dict) and isinstance(declared := extra.get("env"), str):
        return declared
    return ENV_PREFIX + name.upper()


def _refuse_unknown_variables(slots: list[_Slot], service: str, environ: Mapping[str, str]) -> None:
    # Variables of the suite are known to every process, also to one whose settings class leaves them out.
    known = {slot.env for slot in slots} | PROCESS_VARIABLES | {slot.env for slot in _slots(SuiteSettings, SUITE_TABLE)}
    own = {slot.table for slot in slots} | {service}
    others = tuple(f"{ENV_PREFIX}{name.upper()}_" for name in (KNOWN_SECTIONS | FOREIGN_PREFIXES) - own)
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX) and name not in known and not name.startswith(others):
            raise SettingsError(name, "is not a setting")


def _read_tables(environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    if not (location := environ.get(CONFIG_VARIABLE)):
        return {}
    try:
        content = tomllib.loads(Path(location).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(CONFIG_VARIABLE, f"the file cannot be read ({type(error).__name__})") from None
    except UnicodeDecodeError:
        raise SettingsError(CONFIG_VARIABLE, "the file is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        # The parser's own text may quote the file.
        place = re.search(r"at (line \d+, column \d+|end of document)", str(error))
        where = f" at {place.group(1)}" if place else ""
        raise SettingsError(CONFIG_VARIABLE, f"the file is not valid TOML{where}") from None
    for name, table in content.items():
        if not isinstance(table, dict):
            raise SettingsError(name, f"stands outside of a table in the file of {CONFIG_VARIABLE}")
    return content


def _refuse_unknown_tables(slots: list[_Slot], tables: Mapping[str, Mapping[str, Any]]) -> None:
    fields: dict[str, set[str]] = {SUITE_TABLE: set(SuiteSettings.model_fields)}
    for slot in slots:
        fields.setdefault(slot.table, set()).add(slot.field)
    for name, table in tables.items():
        if name not in fields:
            if name not in KNOWN_SECTIONS:
                raise SettingsError(f"[{name}]", "is not a table of settings")
            continue
        for key in table:
            if key not in fields[name]:
                raise SettingsError(f"[{name}] {key}", "is not a setting")


def _from_text(slot: _Slot, text: str) -> Any:
    """A variable's text in the shape that the field's type wants; scalars are converted by pydantic itself."""
    kinds = {get_origin(kind) or kind for kind in _alternatives(slot.info.annotation)}
    if kinds & {tuple, list, set, frozenset}:
        return [part.strip() for part in text.split(",") if part.strip()]
    if dict in kinds or Mapping in kinds:
        try:
            return json.loads(text)
        except ValueError:
            raise SettingsError(slot.env, "is not valid JSON") from None
    return text


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)


def _first_problem(
    error: ValidationError, origin: Mapping[tuple[str, ...], tuple[str, Any]], slots: list[_Slot]
) -> SettingsError:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    location = tuple(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    for path in (location[:2], location[:1]):
        if path in origin:
            key, value = origin[path]
            # A validator's text may quote what it was given.
            quoted = any(part and part in message for part in _texts(value))
            return SettingsError(key, "the value is not valid" if quoted else message)
    # A rule over several fields: name what stands nearest to it.
    for slot in slots:
        if slot.path == location:
            return SettingsError(slot.env, message)
    for slot in slots:
        if slot.path[: len(location)] == location and location:
            return SettingsError(f"[{slot.table}]", message)
    return SettingsError("settings", message)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield str(key)
            yield from _texts(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)
    else:
        yield str(value)


def _show_default(info: FieldInfo) -> str:
    default = info.get_default(call_default_factory=True, validated_data={})
    if default is None or default is PydanticUndefined:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:.12g}"
    if isinstance(default, (tuple, list, set, frozenset)):
        return ",".join(str(part) for part in default)
    return str(default)
