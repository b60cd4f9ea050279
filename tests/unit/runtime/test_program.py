"""Consumes how assay was started, checks that help and advice name what a person can type again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import typer

from assay.runtime.program import program, speak


def an_app() -> typer.Typer:
    app, group = typer.Typer(help="Start with:  **assay demo**"), typer.Typer(help="Example:  `assay registry list`")

    @app.command(name="demo")
    def demo() -> None:
        """Run everything. Example:  `assay demo`, of the package assay."""

    @group.command(name="show")
    def show() -> None:
        """Example:  `assay registry show champion`"""

    app.add_typer(group, name="registry")
    return app


def texts(app: typer.Typer) -> list[str]:
    (group,) = app.registered_groups
    assert group.typer_instance is not None
    inner = group.typer_instance
    return [str(one) for one in (app.info.help, app.registered_commands[0].help, inner.info.help)]


def test_help_names_the_script_that_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_PROGRAM", "./spark-submit.sh")
    app = an_app()
    speak(app)
    assert program() == "./spark-submit.sh"
    assert texts(app) == [
        "Start with:  **./spark-submit.sh demo**",
        "Run everything. Example:  `./spark-submit.sh demo`, of the package assay.",
        "Example:  `./spark-submit.sh registry list`",
    ]


def test_an_installed_assay_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASSAY_PROGRAM", raising=False)
    app = an_app()
    speak(app)
    assert program() == "assay"
    assert texts(app)[0] == "Start with:  **assay demo**"


@pytest.mark.parametrize("command", [["train"], ["init"], ["registry", "show"]])
def test_examples_of_real_commands_can_be_typed_again(command: list[str]) -> None:
    code = "import sys; from assay.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"],
        env={**os.environ, "ASSAY_PROGRAM": "./spark-submit.sh", "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"Usage: ./spark-submit.sh {' '.join(command)}" in done.stdout
    assert f"./spark-submit.sh {' '.join(command)}" in done.stdout.partition("Example:")[2]
