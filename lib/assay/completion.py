"""Consumes a shell's name or what stands on its command line, produces its completion script or what may come next."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

from assay.runtime.failures import failures_told

NAME = "completion"
PURPOSE = "The script that lets bash, zsh or fish complete commands, options and settings."
PROGRAM = "assay"
ASKING = "_ASSAY_COMPLETE"  # what shells set when they want to know what may come next

# No blank after `--set engine.rounds=`. And ./spark-submit.sh takes the same words; Spark has a script of this name, so
# only one that knows the question is asked.
FOR_BASH = f"""
_assay_words() {{
    _assay_completion "$@"
    [[ ${{COMPREPLY[0]-}} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}}

_assay_spark_submit() {{
    grep -qs {ASKING} "$1" && _assay_words "$@"
}}

complete -o default -F _assay_words assay
complete -o default -F _assay_spark_submit spark-submit.sh"""

# No blank after a setting here either. A file of `fpath` is read at the first TAB, which has to be answered, too.
FOR_ZSH = f"""#compdef {PROGRAM}

_assay_completion() {{
    local answer joined=(-S '')
    answer=$(env _TYPER_COMPLETE_ARGS="${{words[1,$CURRENT]}}" {ASKING}=complete_zsh {PROGRAM})
    [[ $answer == *'="'[:\\)$'\\n']* ]] && answer=${{answer/_arguments/_arguments -O joined}}
    eval $answer
}}

[[ ${{zsh_eval_context[-1]}} != loadautofunc ]] || _assay_completion
compdef _assay_completion {PROGRAM}"""

Shell = Annotated[Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]


def completion(shell: Shell) -> None:
    """Print the script that lets a shell complete commands, options, profiles, files and settings of `--set`.

    Put it where your shell looks: bash in a file that `~/.bashrc` sources, zsh in a file `_assay` in a folder of its
    `fpath`, fish in `~/.config/fish/completions/assay.fish`.

    Reads: nothing.

    Writes: nothing.

    Example:  `assay completion bash`
    """
    with failures_told(NAME, False, lambda: None):
        print(script(shell), flush=True)


def script(shell: Literal["bash", "zsh", "fish"]) -> str:
    """The completion script of a shell; that of bash completes ./spark-submit.sh as well."""
    if shell == "zsh":
        return FOR_ZSH
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    text: str = get_completion_script(prog_name=PROGRAM, complete_var=ASKING, shell=shell)
    return f"{text}\n{FOR_BASH}" if shell == "bash" else text


def prepare() -> None:
    """Teach Typer the shells, where one of them asks what may come next."""
    if ASKING in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]

        os.environ["COLUMNS"] = "1000"  # Rich breaks descriptions into lines, and fish takes each for a word
        completion_init()
