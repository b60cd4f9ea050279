"""Consumes how this process was started, produces what a person types before a command, and help that says so."""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

INSTALLED = "assay"  # what `pip install` puts on the path, and what texts are written with


def program() -> str:
    """`./spark-submit.sh` (or `run.sh`) as it was called, where that started this process; else `assay`."""
    return os.environ.get("ASSAY_PROGRAM") or INSTALLED


def speak(app: typer.Typer) -> None:
    """Have the help of an app, its commands and groups name the program that was called: examples are to be copied."""
    if (called := program()) == INSTALLED:
        return

    def told(text: str | None) -> str | None:
        return text and text.replace(f"`{INSTALLED} ", f"`{called} ").replace(f"**{INSTALLED} ", f"**{called} ")

    app.info.help = told(app.info.help)
    for command in app.registered_commands:
        command.help = told(command.help or inspect.getdoc(command.callback) if command.callback else command.help)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            speak(group.typer_instance)
