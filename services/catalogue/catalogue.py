"""Loading a catalogue and looking things up in it.

The packaged `default.toml` is extended by the user's file: an entry of the same name replaces the packaged one whole,
and `include_default = false` drops the packaged ones. Models whose `requires_env` is not met are left out.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Self

from pydantic import ValidationError

from services.catalogue.schema import CatalogueFile
from services.catalogue.values import Model, UpstreamSpec
from services.chassis.errors import InvalidRequest, Reason

PACKAGED = "default.toml"


class CatalogueError(Exception):
    """The catalogue cannot be used. `key` is the dotted path at fault, empty for the whole file; no value is shown."""

    def __init__(self, source: str, key: str, problem: str) -> None:
        super().__init__(f"catalogue {source}: {key}: {problem}" if key else f"catalogue {source}: {problem}")
        self.source = source
        self.key = key
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All models that are offered, in the order of the files, and the upstreams that answer for them."""

    models: tuple[Model, ...]
    upstreams: Mapping[str, UpstreamSpec]
    version: str
    """Names this content: changes with any model that is offered and with its prices."""
    _by_name: Mapping[str, Model]

    @classmethod
    def load(cls, path: Path | None, environ: Mapping[str, str]) -> Self:
        """Read the packaged catalogue and, if given, the user's file; `CatalogueError` names the key at fault.

        Reads files: call it at start, not on the loop.
        """
        if path is None:
            return cls.parse("", environ, source=PACKAGED)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CatalogueError(str(path), "", f"cannot be read ({type(error).__name__})") from None
        return cls.parse(text, environ, source=str(path), folder=path.parent)

    @classmethod
    def parse(cls, text: str, environ: Mapping[str, str], *, source: str = "text", folder: Path = Path()) -> Self:
        """Build a catalogue from TOML text, on top of the packaged one unless the text says otherwise."""
        own = _read(text, source)
        if own.include_default:
            packaged = _read(resources.files(__package__).joinpath(PACKAGED).read_text(encoding="utf-8"), PACKAGED)
            models, tables = packaged.models | own.models, packaged.upstreams | own.upstreams
        else:
            models, tables = own.models, own.upstreams
        upstreams: dict[str, UpstreamSpec] = {}
        for name, upstream in tables.items():
            try:
                upstreams[name] = upstream.upstream(name, folder, environ)
            except ValueError as error:
                raise CatalogueError(source, f"upstreams.{name}.base_url_env", str(error)) from None
        by_name: dict[str, Model] = {}
        offered: list[Model] = []
        for name, table in models.items():
            if table.upstream not in upstreams:
                raise CatalogueError(source, f"models.{name}.upstream", "names no upstream of the catalogue")
            if not table.offered(environ):
                continue
            model = table.model(name, folder)
            offered.append(model)
            for known in (name, *model.aliases):
                if known in by_name:
                    raise CatalogueError(source, f"models.{name}.aliases", f"'{known}' names another model too")
                by_name[known] = model
        if not offered:
            raise CatalogueError(source, "models", "none is offered: define one, or set what its requires_env names")
        return cls(tuple(offered), MappingProxyType(upstreams), _version(offered), MappingProxyType(by_name))

    def find(self, name: str) -> Model | None:
        """Return the model of this name or alias."""
        return self._by_name.get(name)

    def get(self, name: str, *, field: str = "model") -> Model:
        """Return the model of this name or alias; `InvalidRequest(UNKNOWN_MODEL)` on `field`, with close names."""
        model = self._by_name.get(name)
        if model is None:
            close = difflib.get_close_matches(name[:128], self._by_name, n=3)
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            raise InvalidRequest(f"the catalogue offers no such model{hint}", reason=Reason.UNKNOWN_MODEL, field=field)
        return model

    def upstream_of(self, model: Model) -> UpstreamSpec:
        """Return the upstream that answers for `model`."""
        return self.upstreams[model.upstream]


def _read(text: str, source: str) -> CatalogueFile:
    """Return the checked content of one file."""
    try:
        return CatalogueFile.model_validate(tomllib.loads(text, parse_float=Decimal))
    except tomllib.TOMLDecodeError as error:
        # Only the place: the parser's sentence may quote the file, and files hold headers with keys.
        place = re.search(r"at (line \d+|end of document)", str(error))
        raise CatalogueError(source, "", f"is not TOML{f' ({place[0]})' if place else ''}") from None
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        # A misspelt key usually also leaves a required one missing: name the misspelt one.
        first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
        key = ".".join(str(part) for part in first["loc"] if part != "[key]")
        problem = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise CatalogueError(source, key, problem[:1].lower() + problem[1:]) from None


def _version(models: list[Model]) -> str:
    """Return a name for what is offered, the same in every process: sets sorted, paths of this machine left out."""
    content = [
        (
            *(model.name, model.upstream, model.upstream_model, model.aliases, model.prices.version, model.latency),
            *(int(model.quality.tier), sorted(model.quality.p_correct.items()), sorted(model.capabilities)),
            *(model.context_tokens, model.max_output_tokens, model.image_tokens, model.stand_in),
        )
        for model in models
    ]
    return hashlib.sha256(repr(content).encode()).hexdigest()[:12]
