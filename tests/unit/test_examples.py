"""Consumes the help of every command, checks that the example in it is a command line that is understood."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from assay import cli

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(r"^Example:\s+`(.+)`$", re.MULTILINE)


def commands(group, path=()):
    """Path of words and command, of every command that can be run."""
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, (*path, name))
        else:
            yield (*path, name), one


WHOLE = typer.main.get_command(cli.app)
ALL = {" ".join(path): one for path, one in commands(WHOLE)}
GROUPS = {name: one for name, one in WHOLE.commands.items() if hasattr(one, "commands")}


def examples_of(command):
    return EXAMPLE.findall("\n".join(line.strip() for line in (command.help or "").splitlines()))


def understood(line):
    """The command that a command line asks for, and its parameters; raises where Typer would."""
    program, *words = shlex.split(line)
    assert program == "assay"
    command, path = WHOLE, []
    context = command.make_context("assay", words)
    while hasattr(command, "commands"):
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
        path.append(name)
        context = command.make_context(name, words, parent=context)
    return " ".join(path), context.params


@pytest.mark.parametrize("name", list(ALL))
def test_an_example_is_understood(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    lines = examples_of(ALL[name])
    assert lines
    for line in lines:
        asked, told = understood(line)
        assert asked == name
        dataset = told.get("dataset")
        assert dataset is None or dataset.is_file()


@pytest.mark.parametrize("name", list(GROUPS))
def test_an_example_of_a_group_is_of_one_of_its_commands(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    (line,) = examples_of(GROUPS[name])
    assert understood(line)[0] in ALL


@pytest.mark.parametrize("line", ["assay trian", "assay train --rounds 5", "assay train", "assay registry promote"])
def test_what_is_wrong_would_not_be(line):
    with pytest.raises((cli.UsageError, SystemExit)):
        understood(line)
