"""Consumes command lines that are not finished, checks what a real bash, zsh and fish offer: each where it is.

Where zsh or fish is not, what they are told is checked alone.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from assay.completion import ASKING, script

ROOT = Path(__file__).resolve().parents[2]
ASSAY = f"""#!/bin/sh
exec {sys.executable} -c 'import sys; from assay.cli import main; main(sys.argv[1:])' "$@"
"""
# As readline does it: find the function of a command's completion, set the words, call it.
TAB = """
source "$1"; shift
how=$(complete -p "${1##*/}") || exit 9
[[ $how =~ -F\\ ([^ ]+) ]]
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
"${BASH_REMATCH[1]}" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
for word in "${COMPREPLY[@]}"; do echo "$word"; done
"""
# A line editor of its own, in a terminal of its own; `told` gets the line as it is after TAB.
ZSH = r"""
zmodload zsh/zpty
folder=$1; shift
zpty z zsh -f -i
zpty -w z "cd ${(q)PWD}; fpath=(${(q)folder} \$fpath); autoload -Uz compinit; compinit -u -D"
zpty -w z 'tell() { zle complete-word; print -r -- "${BUFFER}|" >>$TOLD; BUFFER= }; zle -N tell; bindkey "^T" tell'
for line in "$@"; do zpty -w -n z "$line"$'\x14'; done
zpty -w z exit
while zpty -r z output; do :; done
"""
CASES = [
    (["assay", "tr"], ["train"]),
    (["assay", "registry", "pro"], ["promote"]),
    (["assay", "train", "--profile", "re"], ["research"]),
    (["assay", "score", "--set", "engine.rou"], ["engine.rounds="]),
    (["assay", "tables", "predi"], ["predictions"]),
]


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """A folder with a program `assay`, and the environment that finds it."""
    folder = tmp_path_factory.mktemp("shell")
    (folder / "assay").write_text(ASSAY)
    (folder / "assay").chmod(0o755)
    (folder / "completion.bash").write_text(script("bash"))
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return folder, {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "lib")}


@pytest.fixture
def tab(shell):
    """tab("assay", "tr") -> what bash offers for the last word."""
    folder, environment = shell

    def call(*words, cwd=ROOT):
        command = ["bash", "--norc", "-c", TAB, "bash", str(folder / "completion.bash"), *words]
        done = subprocess.run(
            command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        return [line for line in done.stdout.splitlines() if line]

    return call


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [*CASES, (["assay", "train", "--dataset", "conf/d"], [])],  # so bash offers files
)
def test_bash_completes(tab, words, offered):
    assert tab(*words) == offered


def test_every_command_is_offered(tab):
    offered = tab("assay", "")
    assert {"ingest", "train", "pipeline", "doctor", "completion", "registry"} <= set(offered)


def test_the_script_of_the_project_completes_as_well_and_sets_nothing_up(tab, tmp_path):
    shutil.copy(ROOT / "spark-submit.sh", tmp_path)
    assert tab("./spark-submit.sh", "tr", cwd=tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["spark-submit.sh"]
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT / "lib"} exec {sys.executable} "$@"\n')
    (tmp_path / ".venv/bin/python").chmod(0o755)
    (tmp_path / ".venv/bin/assay").write_text("from assay.cli import main\nmain()\n")
    assert tab("./spark-submit.sh", "tr", cwd=tmp_path) == ["train"]


def test_another_script_of_that_name_is_not_started(tab, tmp_path):
    (tmp_path / "spark-submit.sh").write_text("#!/bin/sh\ntouch started\n")
    (tmp_path / "spark-submit.sh").chmod(0o755)
    assert tab("./spark-submit.sh", "tr", cwd=tmp_path) == []
    assert not (tmp_path / "started").exists()


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh_completes_from_the_first_tab_on(shell, tmp_path):
    environment = shell[1]
    (tmp_path / "_assay").write_text(script("zsh") + "\n")
    lines = [*(" ".join(words) for words, _ in CASES), "assay train --dataset conf/prof", "assay dep"]
    command = ["zsh", "-f", "-c", ZSH, "zsh", str(tmp_path), *lines]
    told = tmp_path / "told"
    subprocess.run(command, env={**environment, "TOLD": str(told)}, cwd=ROOT, timeout=120, check=True)
    expected = [" ".join([*words[:-1], word]) + ("" if word[-1] == "=" else " ") for words, (word,) in CASES]
    assert [line.removesuffix("|") for line in told.read_text().splitlines()] == [
        *expected,
        "assay train --dataset conf/profiles/",
        "assay deploy ",  # whose description has a `section`, which is no command
    ]


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
def test_fish_completes(shell, tmp_path):
    environment = shell[1]
    (tmp_path / "assay.fish").write_text(script("fish"))
    cases = CASES[1::2]  # fish asks twice for each
    lines = [*(" ".join(words) for words, _ in cases), "assay train --dataset conf/prof"]
    asked = f"source {tmp_path / 'assay.fish'}; for line in $argv; complete -C $line; end"
    command = ["fish", "--no-config", "-c", asked, *lines]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    offered = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert offered == [*(word for _, (word,) in cases), "conf/profiles/"]


@pytest.mark.parametrize("kind", ["zsh", "fish"])
def test_other_shells_ask_and_are_answered(shell, kind):
    asked = script(kind)
    assert f"{ASKING}=complete_{kind}" in asked
    assert "_TYPER_COMPLETE_ARGS" in asked
    assert asked.count("assay") >= 2
    question = {
        ASKING: f"complete_{kind}",
        "_TYPER_COMPLETE_ARGS": "assay tr",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    command = [str(shell[0] / "assay")]
    done = subprocess.run(command, env={**shell[1], **question}, capture_output=True, text=True, timeout=60, check=True)
    (line,) = done.stdout.splitlines()  # a second one would be offered as a word
    assert line.startswith({"zsh": '_arguments \'*: :(("train":"Train', "fish": "train\tTrain"}[kind])


def test_the_command_prints_the_script(shell):
    done = subprocess.run(
        [str(shell[0] / "assay"), "completion", "bash"], env=shell[1], capture_output=True, text=True, check=True
    )
    assert done.stdout == script("bash") + "\n"
