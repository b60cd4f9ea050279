"""Consumes JAVA_HOME or the path, produces the Java that Spark will take: its version, and whether Spark takes it."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

# Of Spark 4.1: its Hadoop fails from 23 on, and slim builds leave the module out. spark-submit.sh has the same rule.
OLDEST, NEWEST = 17, 22
MODULE = "jdk.incubator.vector"


@dataclasses.dataclass(frozen=True)
class Java:
    """An installed Java. modules: None where its release file does not list them."""

    home: Path
    version: str
    modules: frozenset[str] | None = None

    @property
    def major(self) -> int | None:
        """17 of `17.0.15`; None where the version says nothing."""
        found = re.match(r"(\d+)", self.version)
        return int(found[1]) if found else None

    def unfit(self) -> str | None:
        """Why Spark does not take it; None where it does."""
        if self.major is None:
            return f"{self.home} does not say its version"
        if not OLDEST <= self.major <= NEWEST:
            return f"{self.home} is Java {self.version}, and Spark takes {OLDEST} to {NEWEST}"
        if self.modules is not None and MODULE not in self.modules:
            return f"{self.home} (Java {self.version}) lacks the module {MODULE}"
        return None


def java_program(environment: Mapping[str, str] = os.environ) -> str:
    """The `java` that Spark starts: that of JAVA_HOME, else the first on the path."""
    home = environment.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else "java"


def find_java(environment: Mapping[str, str] = os.environ) -> Java | None:
    """The Java that Spark will start; None where there is none."""
    found = shutil.which(java_program(environment), path=environment.get("PATH", os.defpath))
    if found is None:
        return None
    home = Path(found).resolve().parents[1]
    return _released(home) or _asked(Path(found))


def _released(home: Path) -> Java | None:
    """By the file that every JDK carries, which is quicker than asking."""
    try:
        text = (home / "release").read_text("utf-8", errors="replace")
    except OSError:
        return None
    told = dict(re.findall(r'^(\w+)="?(.*?)"?$', text, re.MULTILINE))
    modules = told.get("MODULES")
    return Java(home, told.get("JAVA_VERSION", ""), frozenset(modules.split()) if modules else None)


def _asked(program: Path) -> Java:
    """By its own word: of a version manager's shim only Java itself knows where it is."""
    try:
        command = [str(program), "-XshowSettings:properties", "-version"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return Java(program, "")
    told = dict(re.findall(r"^ *(java\.home|java\.version) = (.+)$", done.stderr, re.MULTILINE))
    home = Path(told.get("java.home", str(program)))
    return _released(home) or Java(home, told.get("java.version", ""))
