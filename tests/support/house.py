"""The house rules as functions from a tree of files to a list of faults, so that they can be tried on a bad tree.

Nothing is imported from the tree that is examined: syntax trees and text only.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("manifests", "origin", "edge", "tools")
ALLOWED = {
    "manifests": frozenset[str](),
    "origin": frozenset({"manifests"}),
    "edge": frozenset({"manifests"}),
    "tools": frozenset({"manifests", "origin", "edge"}),
}
# From the top of the house to its cellar; a room imports only rooms after it.
ROOMS = {
    "origin": ("app", "opening", "web", "live", "drafts", "publish", "accounts", "stations", "database", "storage"),
    "edge": ("app", "opening", "serve", "sync", "report", "fill", "store", "upstream"),
}
PURE_MODULES = frozenset(
    {
        *("planner", "plans", "window", "eviction", "pacing", "promise", "metering", "whynot", "shares", "inflight"),
        *("connectivity", "workdays", "freshness", "room", "wanting", "readahead", "flight_plan"),
        *("permissions", "throttling", "totp", "citystate"),
        *("allowance", "accessline"),
        *("turns", "delays"),
        *("lifecycle", "document", "owners", "themes", "markup_tree", "markup_write"),
        *("admission",),
        *("restore_plan", "pilot_plan"),
        *("redirects",),
    }
)
IMPURE_IMPORTS = frozenset(
    {
        *("aiofiles", "aiohttp", "aiosqlite", "asyncio", "concurrent", "http.client", "http.server", "io.open"),
        *("logging", "multiprocessing", "os", "pathlib", "random", "secrets", "select", "shutil", "signal", "socket"),
        *("sqlalchemy", "sqlite3", "ssl", "structlog", "subprocess", "tempfile", "threading", "time"),
        *("urllib.request", "urllib3", "uuid"),
    }
)
IMPURE_CALLS = frozenset({"open", "print", "input", "exec", "eval", "__import__", "breakpoint"})
CLOCK_CALLS = frozenset({"now", "utcnow", "today"})
MAX_LINES = 400
COUNTED = frozenset({".py", ".js", ".css", ".html", ".j2", ".sh"})
TEXTS = COUNTED | {".md", ".toml", ".tsv", ".json", ".txt", ".ini", ".mako", ".svg", ".cfg", ""}
SKIPPED_DIRS = frozenset({"__pycache__", "build", "dist", "demo", "node_modules", "vendor"})
# Split, so that this file does not hold what it looks for.
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|NotImplemented" + r"Error)\b")
MACHINE_PATHS = re.compile(r"(?:^|[^a-z])/(?:work|farm|ro" + r"ot)/")
REGISTRIES = re.compile(
    r"(?i)\b(?:py" + r"pi\.org|pythonho" + r"sted\.org|npm" + r"js\.(?:org|com)|npmm" + r"irror\.com"
    r"|pypi\.tu" + r"na|mirr" + r"ors\.[a-z]+\.(?:com|cn|edu)|proxy\.gol" + r"ang\.org|cra" + r"tes\.io)"
)


@dataclass(frozen=True)
class Module:
    """One Python file: its dotted name and syntax tree."""

    name: str
    path: Path
    is_package: bool
    text: str
    tree: ast.Module

    @property
    def side(self) -> str:
        """The top package."""
        return self.name.partition(".")[0]

    @property
    def room(self) -> str:
        """The second part of the name; empty for the side's own `__init__`."""
        return self.name.split(".")[1] if "." in self.name else ""


def files_of(root: Path) -> Iterator[Path]:
    """All files that belong to the project: no hidden folders, no build products, no virtual environment."""
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        hidden = any(part.startswith(".") and part != ".ci" for part in parts[:-1])
        if path.is_file() and not hidden and not SKIPPED_DIRS.intersection(parts[:-1]):
            yield path


def modules_of(root: Path, packages: Iterable[str] = PACKAGES) -> list[Module]:
    """Parse the Python files of the packages."""
    found = []
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            if SKIPPED_DIRS.intersection(path.parent.relative_to(root).parts):
                continue
            parts = list(path.relative_to(root).with_suffix("").parts)
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            text = path.read_text(encoding="utf-8")
            found.append(Module(name, path, is_package, text, ast.parse(text)))
    return found


def imports_of(module: Module) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of each import, wherever it stands; `from a import b` gives `a.b`."""
    here = module.name.split(".")
    package = here if module.is_package else here[:-1]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{stem}.{alias.name}"


def import_faults(modules: list[Module]) -> list[str]:
    """Imports that go up or across the house."""
    faults = []
    for module in modules:
        for line, name in imports_of(module):
            side = name.partition(".")[0]
            if side not in PACKAGES:
                continue
            if side != module.side and side not in ALLOWED[module.side]:
                faults.append(f"{module.path}:{line}: {module.side} must not import {side} ({name})")
            elif side == module.side and side in ROOMS:
                fault = _room_fault(module, name)
                faults += [f"{module.path}:{line}: {fault}"] if fault else []
    return faults


def _room_fault(module: Module, name: str) -> str:
    rooms = ROOMS[module.side]
    theirs = name.split(".")[1]
    if theirs not in rooms or theirs == module.room:
        return ""
    if module.room not in rooms:
        return f"{module.name} is a leaf, or in no room, and must not import room {theirs}"
    if rooms.index(theirs) < rooms.index(module.room):
        return f"room {module.room} must not import room {theirs}, which is above it ({name})"
    return ""


def homeless(modules: list[Module]) -> list[str]:
    """Folders of a side that are no room: the picture of the house would be wrong."""
    return [
        f"{module.path}: {module.room} is no room of {module.side}"
        for module in modules
        if module.side in ROOMS
        and module.room
        and (module.is_package or module.name.count(".") > 1)
        and module.room not in ROOMS[module.side]
    ]


def is_pure(module: Module) -> bool:
    """Tell whether the rules of purity hold for it."""
    if module.side == "manifests":
        return True
    return module.side in ROOMS and bool(PURE_MODULES.intersection(module.name.split(".")[1:]))


def purity_faults(modules: list[Module]) -> list[str]:
    """I/O, clocks, randomness, logging and event loops in rooms that decide."""
    faults = []
    for module in filter(is_pure, modules):
        for line, name in imports_of(module):
            parts = name.split(".")
            if parts[0] in IMPURE_IMPORTS or ".".join(parts[:2]) in IMPURE_IMPORTS:
                faults.append(f"{module.path}:{line}: a pure module imports {name}")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and (what := _impure_call(node)):
                faults.append(f"{module.path}:{node.lineno}: a pure module calls {what}")
            elif isinstance(node, ast.AsyncFunctionDef | ast.Await):
                faults.append(f"{module.path}:{node.lineno}: a pure module awaits")
    return faults


def _impure_call(call: ast.Call) -> str:
    func = call.func
    if isinstance(func, ast.Name) and func.id in IMPURE_CALLS:
        return f"{func.id}()"
    if isinstance(func, ast.Attribute) and func.attr in CLOCK_CALLS:
        base = func.value.attr if isinstance(func.value, ast.Attribute) else getattr(func.value, "id", "")
        return f"{base}.{func.attr}()" if base in {"datetime", "date"} else ""
    return ""


def length_faults(root: Path) -> list[str]:
    """Source files over the limit of lines."""
    faults = []
    for path in files_of(root):
        if path.suffix in COUNTED:
            count = path.read_bytes().count(b"\n")
            if count > MAX_LINES:
                faults.append(f"{path}: {count} lines, at most {MAX_LINES}")
    return faults


def docstring_faults(modules: list[Module]) -> list[str]:
    """Modules, public functions, classes and methods without a docstring."""
    faults = []
    for module in modules:
        if ast.get_docstring(module.tree) is None:
            faults.append(f"{module.path}:1: module without a docstring")
        faults += [f"{module.path}:{line}: {name} has no docstring" for line, name in _undocumented(module.tree, "")]
    return faults


def _undocumented(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[int, str]]:
    for child in node.body:
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or child.name.startswith("_"):
            continue
        if ast.get_docstring(child) is None and not _is_excused(child):
            yield child.lineno, prefix + child.name
        if isinstance(child, ast.ClassDef):
            yield from _undocumented(child, f"{prefix}{child.name}.")


def _is_excused(node: ast.AST) -> bool:
    """An overload or a setter says nothing that its partner does not say."""
    marks = {getattr(mark, "attr", getattr(mark, "id", "")) for mark in getattr(node, "decorator_list", [])}
    return bool(marks & {"overload", "override", "setter", "deleter"})


def word_faults(root: Path) -> list[str]:
    """Unfinished words in the product; paths of a builder's machine and registries' hosts anywhere."""
    faults = []
    for path in files_of(root):
        if path.suffix not in TEXTS or (path.suffix == "" and path.stat().st_size > 100_000):
            continue
        product = path.relative_to(root).parts[0] in PACKAGES
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            if product and UNFINISHED.search(line):
                faults.append(f"{path}:{number}: unfinished: {line.strip()[:80]}")
            if MACHINE_PATHS.search(line):
                faults.append(f"{path}:{number}: a path of one machine: {line.strip()[:80]}")
            if REGISTRIES.search(line):
                faults.append(f"{path}:{number}: a registry's host: {line.strip()[:80]}")
    return faults


_BROAD = re.compile(r"^\s*except(?:\s*\(?.*\b(?:Exception|BaseException)\b.*)?\s*:")
_NOQA = re.compile(r"#\s*noqa(?!: [A-Z]+\d+(?:, ?[A-Z]+\d+)* - \w)")


def reason_faults(modules: list[Module]) -> list[str]:
    """A broad `except` or a `noqa` without its reason beside it."""
    faults = []
    for module in modules:
        lines = module.text.splitlines()
        for number, line in enumerate(lines, 1):
            near = lines[max(0, number - 2) : number + 1]
            if _BROAD.match(line) and not any("#" in one for one in near):
                faults.append(f"{module.path}:{number}: a broad except without its reason beside it")
            if _NOQA.search(line):
                faults.append(f"{module.path}:{number}: a noqa without code or reason")
    return faults


_ES5_NOISE = re.compile(
    r"""/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|(?<=[=(,:;!&|?{}\[])\s*/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n])*/[gimuy]*""",
    re.DOTALL,
)
_ES5_NEWER = {
    "let or const": re.compile(r"\b(?:let|const)\s+[\w${\[]"),
    "arrow function": re.compile(r"=>"),
    "template string": re.compile(r"`"),
    "class": re.compile(r"\bclass\s+\w"),
    "async or await": re.compile(r"\b(?:async|await)\b"),
    "spread or rest": re.compile(r"\.\.\."),
    "for of": re.compile(r"\bfor\s*\([^)]*\sof\s"),
    "optional chaining or ??": re.compile(r"\?\.(?!\d)|\?\?"),
    "power operator": re.compile(r"\*\*"),
    "fetch": re.compile(r"(?<![.\w])fetch\s*\("),
    "newer global": re.compile(r"\b(?:Promise|Map|Set|WeakMap|Symbol|Proxy|URLSearchParams|IntersectionObserver)\b"),
    "module": re.compile(r"^\s*(?:import|export)\s", re.MULTILINE),
    "newer method": re.compile(
        r"Object\.(?:assign|entries|values)\b|Array\.from\b|\.(?:includes|padStart|padEnd|startsWith|endsWith|repeat"
        r"|append|remove|closest|replaceWith)\("
    ),
}


def es5_faults(path: Path) -> list[str]:
    """What a set-top box's old browser would stumble over: syntax and globals newer than ECMAScript 5."""
    code = _ES5_NOISE.sub(lambda match: "''" + "\n" * match.group().count("\n"), path.read_text(encoding="utf-8"))
    return [
        f"{path}:{code.count(chr(10), 0, match.start()) + 1}: {what}"
        for what, pattern in _ES5_NEWER.items()
        for match in pattern.finditer(code)
    ]
