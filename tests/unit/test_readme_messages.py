"""Consumes README's guide to messages, checks that the code still says each of them."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from assay import errors

ROOT = Path(__file__).resolve().parents[2]
SECTION = (ROOT / "README.md").read_text(encoding="utf-8").partition("## When it says no\n")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| `([^`]*(?:…|[^`\d])[^`]*)` ?(?:\((\d)\) )?\| .+ \| .+ \|$", SECTION, flags=re.MULTILINE)
ANY = "…"


@cache
def messages() -> list[str]:
    """Every text of the code, with `…` for what is put into it."""
    found = []
    for path in sorted((ROOT / "lib").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else ANY for part in node.values))
    return found


def says(message: str) -> bool:
    """Whether the code has such a text; what is put in side by side counts as one."""
    return any(message in re.sub(f"{ANY}+", ANY, text) for text in messages())


@pytest.mark.parametrize("message", [message for message, _ in ROWS])
def test_the_code_says_what_the_guide_quotes(message):
    assert says(message)


def test_the_guide_has_a_dozen_messages_and_every_exit_code():
    assert len(ROWS) >= 12
    assert {code for _, code in ROWS} == {"", "1", "3"}  # no figure: the commonest one, 2
    told = re.findall(r"^\| (\d) \| ", SECTION, flags=re.MULTILINE)
    assert [int(code) for code in told] == [
        errors.EXIT_OK,
        errors.EXIT_FAILURE,
        errors.EXIT_USER_ERROR,
        errors.EXIT_REFUSED,
    ]


def test_a_message_that_nobody_says_is_found():
    assert not says("table … does not exist in …: run the job … last")
