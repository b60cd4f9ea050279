"""Produces a workspace with registered models, and the commands as the command line runs them."""

from __future__ import annotations

import json

import pytest
from registry_lab import Lab

from assay import cli
from small_models import train_model


@pytest.fixture(scope="session")
def model():
    return train_model()


@pytest.fixture
def lab(workspace, model):
    """A workspace of its own."""
    return Lab(workspace, model)


@pytest.fixture
def run(capsys):
    """run(lab, "list", "--json") -> exit code, lines on standard output, the JSON object or None, standard error."""

    def call(lab, *arguments):
        given = [*arguments, "--dataset", lab.dataset, "--workspace", lab.workspace, "--json"]
        with pytest.raises(SystemExit) as ended:
            cli.main(["registry", *map(str, given)])
        out, err = (text.splitlines() for text in capsys.readouterr())
        return ended.value.code, out[:-1], json.loads(out[-1]), [line for line in err if line.startswith("assay ")]

    return call
