#!/usr/bin/env python3
"""Write the tables of README.md that are made from code: settings and metrics of every process, and who may call what.

python tools/documents.py --write      writes README.md
python tools/documents.py --check      exits 1 if README.md is not what the code gives
"""

from __future__ import annotations

import argparse
import io
import pathlib
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import cast

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from services.cache.metrics import CacheMetrics
from services.cache.rotation.sides import Sides
from services.cache.settings import CacheSettings
from services.chassis.auth.table import TABLE
from services.chassis.auth.values import Role
from services.chassis.histograms import Histograms
from services.chassis.settings import Row, ServiceSettings, document
from services.chassis.telemetry import Telemetry
from services.chassis.watchdog import Watchdog
from services.completion.metrics import Metrics as CompletionMetrics
from services.completion.settings import CompletionSettings
from services.edgestore.settings import EdgestoreSettings
from services.edgestore.shards import Shards
from services.router.metrics import RouterMetrics
from services.router.settings import RouterSettings

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"

PROCESSES: tuple[tuple[str, type[ServiceSettings]], ...] = (
    ("cache", CacheSettings),
    ("router", RouterSettings),
    ("completion", CompletionSettings),
    ("edgestore", EdgestoreSettings),
)


def rows() -> list[Row]:
    """Return every setting once, in the order of the processes."""
    found: dict[str, Row] = {}
    for service, cls in PROCESSES:
        for row in document(cls, service):
            found.setdefault(row.env, row)
    order = {"[suite]": 0, "[cache]": 1, "[embedding]": 2, "[router]": 3, "[completion]": 4, "[offline]": 5}
    return sorted(found.values(), key=lambda row: order.get(row.toml.split()[0], 9))


def settings() -> str:
    """Return the settings as a Markdown table."""
    lines = ["| variable | in the TOML file | default | what it is |", "|---|---|---|---|"]
    for row in rows():
        default = f"`{row.default}`" if row.default else ""
        description = row.description.replace("|", "\\|")
        lines.append(f"| `{row.env}` | `{row.toml}` | {default} | {description} |")
    return "\n".join(lines)


def roles() -> str:
    """Return as a Markdown table which methods each role may call."""
    lines = [f"| method | {' | '.join(f'`{role}`' for role in Role)} |", "|---|" + "---|" * len(Role)]
    for method, allowed in TABLE.items():
        service, _, name = method.rpartition("/")
        cells = " | ".join("yes" if role in allowed else "" for role in Role)
        lines.append(f"| {service.rpartition('.')[2]} `{name}` | {cells} |")
    return "\n".join(lines)


def metrics() -> str:
    """Return the metrics as a Markdown table, those of every process first."""
    every = Telemetry("every", stream=io.BytesIO())
    Watchdog(every)
    store = Telemetry("edgestore", stream=io.BytesIO())
    cache, router, completion = CollectorRegistry(), CollectorRegistry(), CollectorRegistry()
    watched = CacheMetrics(cache)
    watched.watch(cast(Sides, None), lambda: None)  # read when Prometheus comes, which it does not
    RouterMetrics(router, every.log, ())
    CompletionMetrics(completion)
    with tempfile.TemporaryDirectory() as folder:
        Shards(pathlib.Path(folder), store)
    shared = list(_described(every.registry))
    lines = ["| metric | type | labels | what it is |", "|---|---|---|---|", *shared]
    for registry in (completion, cache, router, store.registry):
        lines += [line for line in _described(registry) if line not in shared]
    for telemetry in (every, store):
        telemetry.close()
    return "\n".join(lines)


def _described(registry: CollectorRegistry) -> Iterator[str]:
    for collector in registry._collector_to_names:  # collecting would ask gauges for their values
        if isinstance(collector, MetricWrapperBase | Histograms):
            labelled = [collector.label] if isinstance(collector, Histograms) else collector._labelnames
            for metric in collector.describe():
                name = f"{metric.name}_total" if metric.type == "counter" else metric.name
                labels = ", ".join(f"`{label}`" for label in labelled)
                yield f"| `{name}` | {metric.type} | {labels} | {metric.documentation.replace('|', chr(92) + '|')} |"


def filled(readme: str) -> str:
    """Return the README with its tables made anew."""
    for name, made in (("settings", settings()), ("roles", roles()), ("metrics", metrics())):
        begin, end = f"<!-- {name}: made by tools/documents.py -->", f"<!-- end of {name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(readme):
            raise SystemExit(f"README.md has no place for the table: {begin} … {end}")
        whole = f"{begin}\n{made}\n{end}"
        before, after = pattern.split(readme, maxsplit=1)
        readme = before + whole + after
    return readme


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write README.md")
    action.add_argument("--check", action="store_true", help="compare with README.md")
    args = parser.parse_args()
    current = README.read_text()
    wanted = filled(current)
    if args.write:
        README.write_text(wanted)
        return 0
    if current != wanted:
        sys.stderr.write("README.md is stale: run `make gen`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
