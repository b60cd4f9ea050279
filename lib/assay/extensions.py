"""Consumes names of modules that a user trusts, produces the engines, feature families and scores that they add.

A module adds what its tuple `EXTENSIONS` holds. Three places may name one: `runtime.extensions`, the variable
`ASSAY_EXTENSIONS`, and installed packages, by entry points of the groups `GROUPS`. A model, a feature plan or a
calibration only says what it needs, by a name that is looked up among these: no module is imported because an artifact
says so.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Literal

from assay.errors import AssayError, ConfigError, UserError

Kind = Literal["engine", "features", "score"]
GROUPS: dict[Kind, str] = {"engine": "assay.engines", "features": "assay.features", "score": "assay.scores"}
SETTINGS: dict[Kind, str] = {"engine": "engine.name", "features": "features.families", "score": "conformal.score"}
WORDS: dict[Kind, str] = {"engine": "engine", "features": "feature family", "score": "conformity score"}
VARIABLE, LISTED = "ASSAY_EXTENSIONS", "EXTENSIONS"
# What each has to have; of the alternatives one is enough.
PARTS: dict[Kind, tuple[tuple[str, ...], ...]] = {
    "engine": (("load",), ("learn", "fit"), ("kinds",)),
    "features": (("features",), ("compute", "add")),
    "score": (("score",), ("interval",), ("parts",)),
}


@dataclasses.dataclass(frozen=True)
class Extension:
    """Something that a module adds. sha256: of the module's file, by which a change of its code is told."""

    kind: Kind
    name: str
    item: Any
    module: str
    sha256: str

    @property
    def told(self) -> str:
        """The module and its content, as a feature plan keeps it."""
        return f"{self.module}@{self.sha256[:16]}"


@dataclasses.dataclass(frozen=True)
class Reference:
    """An extension on its way to executors. attribute: of an entry point; empty for what a module lists."""

    module: str
    sha256: str
    attribute: str = ""


_found: dict[tuple[Kind, str], Extension] = {}
_references: dict[str, Reference] = {}  # by module and attribute
_files: dict[str, str] = {}  # module -> its file, of those that were given as one
_digests: dict[str, tuple[ModuleSpec, str]] = {}


def load(names: Iterable[str]) -> list[str]:
    """Import modules (`company.engines`) or files (`huber.py`), and take what they list. Returns the modules' names.

    Raises:
        ConfigError: one is not there, cannot be imported, lists nothing, or lists what is no extension.
    """
    modules = [_imported(name) for name in names]
    for module in modules:
        items = getattr(module, LISTED, None)
        if not isinstance(items, tuple | list) or not items:
            raise ConfigError(
                f"runtime.extensions: module {module.__name__} has no tuple {LISTED} of what it adds; write "
                f"{LISTED} = (MyEngine(),) at its end"
            )
        for item in items:
            _take(item, module)
        _refer(Reference(module.__name__, digest(module)))
    return [module.__name__ for module in modules]


def find(kind: Kind, name: str) -> Extension | None:
    """What is called so, of modules that were loaded, of `ASSAY_EXTENSIONS`, and of installed packages.

    Raises:
        ConfigError: the module that has it cannot be used.
    """
    _of_environment()
    if (kind, name) not in _found:
        for entry in importlib.metadata.entry_points(group=GROUPS[kind], name=name):
            _announced(kind, name, entry.module, entry.attr)
    return _found.get((kind, name))


def get(kind: Kind, name: str, *, told: str = "") -> Extension:
    """The same, of what somebody needs. told: module that had it when that was made.

    Raises:
        UserError: there is none; says what to do.
    """
    found = find(kind, name)
    if found is None:
        module = f", of module {told.partition('@')[0]}," if told else ""
        raise UserError(
            f"{WORDS[kind]} {name!r}{module} is none of assay's own and is not here: name its module or file in "
            f"runtime.extensions (--set 'runtime.extensions=[my_module.py]') or in {VARIABLE}, or install the package "
            f"that announces it under {GROUPS[kind]}"
        )
    return found


def names(kind: Kind) -> list[str]:
    """Names of all extensions of a kind that are here."""
    _of_environment()
    announced = {entry.name for entry in importlib.metadata.entry_points(group=GROUPS[kind])}
    return sorted(announced | {name for of, name in _found if of == kind})


def is_here(kind: Kind, name: str) -> bool:
    """Whether `find` would find it."""
    return find(kind, name) is not None


def check_own(kind: Kind, own: Iterable[str]) -> None:
    """Refuse extensions with a name of assay's own, which would never be taken for it. own: those names.

    Raises:
        ConfigError: names the module.
    """
    for name in own:
        if (kind, name) in _found:
            raise ConfigError(
                f"module {_found[kind, name].module}: its {WORDS[kind]} {name!r} has the name of one of assay's own; "
                "rename it"
            )


def digests(wanted: Iterable[tuple[Kind, str]]) -> dict[str, str]:
    """Name of each extension among these -> hash of its module's file: what an equal run must have, too."""
    found = (find(kind, name) for kind, name in wanted)
    return {f"{one.kind} {one.name}": one.sha256 for one in found if one is not None}


def modules() -> list[str]:
    """Modules of all extensions that were loaded here."""
    return list(dict.fromkeys(reference.module for reference in _references.values()))


def carried() -> tuple[Reference, ...]:
    """What executors are to know, too: all that was loaded here."""
    _of_environment()
    return tuple(_references.values())


def accept(references: Sequence[Reference]) -> None:
    """Take what the driver has loaded. Runs on an executor, to which the modules' files were sent.

    Raises:
        AssayError: a module is not there.
    """
    for reference in references:
        if _references.get(f"{reference.module}:{reference.attribute}") == reference:
            continue
        loaded = sys.modules.get(reference.module)
        if loaded is not None and digest(loaded) != reference.sha256:  # a worker that lives on after an edit
            del sys.modules[reference.module]
        try:
            module = importlib.import_module(reference.module)
        except ImportError as error:
            raise AssayError(
                f"an executor has no module {reference.module}, which the driver has ({error}): install it there"
            ) from None
        if reference.attribute:
            _take(getattr(module, reference.attribute), module)
        else:
            for item in getattr(module, LISTED):
                _take(item, module)
        _refer(reference)


def module_of(name: str) -> str:
    """Name of the module that an item of `runtime.extensions` says."""
    return Path(name).stem if name.endswith(".py") else name


def digest(module: ModuleType) -> str:
    """SHA-256 of a module's file, in a zip or not, as it was when the module was first seen after its import."""
    spec = module.__spec__
    if spec is None or spec.origin is None:
        return ""
    known, found = _digests.get(module.__name__, (None, ""))
    if known is not spec:  # which is a new one after each import
        read = getattr(spec.loader, "get_data", None)
        content = read(spec.origin) if read is not None else Path(spec.origin).read_bytes()
        found = hashlib.sha256(content).hexdigest()
        _digests[module.__name__] = spec, found
    return found


def _take(item: Any, module: ModuleType, kind: Kind | None = None) -> None:
    made = item() if isinstance(item, type) else item
    kind = kind or _kind_of(made, module)
    name = getattr(made, "name", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigError(
            f"module {module.__name__}: {type(made).__name__} needs a `name` of letters, digits and _ (found {name!r})"
        )
    before = _found.get((kind, name))
    if before is not None and before.module != module.__name__:
        raise ConfigError(
            f"{WORDS[kind]} {name!r} is in two modules, {before.module} and {module.__name__}; rename one of them"
        )
    _found[kind, name] = Extension(kind, name, made, module.__name__, digest(module))


def _kind_of(item: Any, module: ModuleType) -> Kind:
    fits: list[Kind] = [kind for kind in PARTS if not _lacking(kind, item)]
    if len(fits) == 1:
        return fits[0]
    wanted = "; ".join(
        f"{WORDS[kind]}: {', '.join(' or '.join(part) for part in parts)}" for kind, parts in PARTS.items()
    )
    raise ConfigError(f"module {module.__name__}: {type(item).__name__} is no extension. What each has ({wanted})")


def _lacking(kind: Kind, item: Any) -> list[str]:
    return [" or ".join(part) for part in PARTS[kind] if not any(hasattr(item, name) for name in part)]


def _announced(kind: Kind, name: str, module_name: str, attribute: str) -> None:
    try:
        module = importlib.import_module(module_name)
        item: Any = functools.reduce(getattr, attribute.split("."), module)
    except Exception as error:
        raise ConfigError(
            f"{WORDS[kind]} {name!r}, which an installed package announces as {module_name}:{attribute}, cannot be "
            f"imported: {type(error).__name__}: {error}"
        ) from error
    made = item() if isinstance(item, type) else item
    lacking = _lacking(kind, made)
    if lacking or getattr(made, "name", None) != name:
        wrong = f"has no {lacking[0]}" if lacking else f"has the name {getattr(made, 'name', None)!r}"
        raise ConfigError(f"{WORDS[kind]} {name!r}, announced as {module_name}:{attribute}, {wrong}")
    _take(made, module, kind)
    _refer(Reference(module.__name__, digest(module), attribute))


def _refer(reference: Reference) -> None:
    _references[f"{reference.module}:{reference.attribute}"] = reference


def _of_environment() -> None:
    told = os.environ.get(VARIABLE, "")
    wanted = [name for name in (part.strip() for part in told.split(",")) if name]
    load([name for name in wanted if f"{module_of(name)}:" not in _references])


def _imported(name: str) -> ModuleType:
    try:
        return _from_file(Path(name).absolute()) if name.endswith(".py") else importlib.import_module(name)
    except UserError:
        raise
    except ModuleNotFoundError as error:
        if error.name is None or name.partition(".")[0] != error.name.partition(".")[0]:
            raise ConfigError(f"runtime.extensions: {name} needs {error.name}, which is not installed") from error
        raise ConfigError(
            f"runtime.extensions: there is no module {name} on Python's path; of a file write its path: {name}.py"
        ) from None
    except Exception as error:
        raise ConfigError(f"runtime.extensions: {name} cannot be imported: {type(error).__name__}: {error}") from error


class _Source(SourceFileLoader):
    """Compiles what is in the file: what Python keeps of it is told apart by whole seconds."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _from_file(path: Path) -> ModuleType:
    """Import a file as the module of its name; again where it has changed since."""
    name = path.stem
    if not path.is_file():
        raise ConfigError(f"runtime.extensions: {path}: there is no such file")
    if not name.isidentifier():
        raise ConfigError(f"runtime.extensions: {path.name}: expected a name of letters, digits and _ before .py")
    there = sys.modules.get(name)
    if _files.get(name) is None or there is None:
        taken = importlib.util.find_spec(name)
        if taken is not None and (taken.origin is None or Path(taken.origin) != path):
            raise ConfigError(
                f"runtime.extensions: {path.name}: Python has a module {name} already ({taken.origin}); rename the file"
            )
    elif _files[name] == str(path) and digest(there) == hashlib.sha256(path.read_bytes()).hexdigest():
        return there
    spec = importlib.util.spec_from_file_location(name, path, loader=_Source(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if there is None:
            del sys.modules[name]
        else:
            sys.modules[name] = there
        raise
    _files[name] = str(path)
    return module
