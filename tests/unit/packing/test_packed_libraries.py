"""Consumes invented distributions, checks which of them a packed environment gets, and that mistakes are named."""

from importlib.metadata import PathDistribution

import pytest

from assay.errors import UserError
from assay.packing.libraries import commands_of, needed


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """installed("name", "requirement", ...) -> a distribution that this Python finds."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name, *requirements, extras=(), commands=()):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        lines = [f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {r}" for r in requirements)]
        lines += [f"Provides-Extra: {extra}" for extra in extras]
        (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines, ""]), encoding="utf-8")
        (folder / "entry_points.txt").write_text("\n".join(["[console_scripts]", *commands]), encoding="utf-8")
        return PathDistribution(folder)

    return make


def names(found):
    return [one.name for one in found]


def test_what_is_needed_is_found_through_extras_markers_and_circles(installed):
    root = installed(
        "Alpha", "zz-Beta[fast]>=1", 'zz-gamma; extra == "more"', 'zz-delta; python_version < "3"', extras=["more"]
    )
    installed("zz_beta", 'zz-epsilon; extra == "fast"', "zz-zeta", extras=["fast"])
    installed("zz_epsilon", "zz-beta")
    installed("zz_zeta")
    installed("zz_gamma")
    assert names(needed(root, [])) == ["zz_beta", "zz_epsilon", "zz_zeta"]
    assert names(needed(root, ["more"])) == ["zz_beta", "zz_epsilon", "zz_gamma", "zz_zeta"]
    assert names(needed(root, [], without=["ZZ_Beta"])) == []


def test_mistakes_are_named(installed):
    root = installed("alpha", "zz-nowhere")
    with pytest.raises(UserError, match=r"zz-nowhere is not installed here: run `[.]/spark-submit[.]sh pack`"):
        needed(root, [])
    with pytest.raises(UserError, match="--extra gpu: assay has no such extra"):
        needed(root, ["gpu"])
    with pytest.raises(UserError, match="--without catbost: assay needs no library of that name"):
        needed(root, [], without=["zz-nowhere", "catbost"])


def test_commands_are_code_that_calls_them(installed):
    found = dict(commands_of(installed("alpha", commands=["tell = json.tool:main", "deep = os:path.join"])))
    assert found["tell"] == "import sys\n\nfrom json.tool import main\n\nsys.exit(main())\n"
    assert found["deep"] == "import sys\n\nfrom os import path\n\nsys.exit(path.join())\n"
