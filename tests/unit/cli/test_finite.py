"""What is no number between two bounds is refused, NaN as well."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from antiphon_client.cli.finite import FiniteRange


@click.command()
@click.option("--of", type=FiniteRange(0.1, min_open=False))
def shown(of: float | None) -> None:
    click.echo(of)


@pytest.mark.parametrize("given", ["nan", "-nan", "inf", "-inf", "0", "x"])
def test_what_is_no_finite_number_is_refused(given: str) -> None:
    ran = CliRunner().invoke(shown, [f"--of={given}"])
    assert ran.exit_code == 2
    assert "Invalid value for '--of'" in ran.output


def test_others_are_taken() -> None:
    assert CliRunner().invoke(shown, ["--of=0.1"]).output == "0.1\n"
    assert CliRunner().invoke(shown, []).output == "\n"
