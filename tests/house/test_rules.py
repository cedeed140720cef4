from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

TREE = Path(__file__).parents[2]
SOURCES = [*sorted((TREE / "gateway").rglob("*.py")), *sorted((TREE / "client_sdk").rglob("*.py"))]
TESTS = sorted((TREE / "tests").rglob("*.py"))
EVERYTHING = [*SOURCES, *TESTS]
DOCUMENTS = [
    *sorted(TREE.glob("*.md")),
    *sorted((TREE / "docs").glob("*.md")),
    TREE / "schema.sql",
    TREE / "config.toml",
]

LAYERS = ["cli", "app", "web", "live", "auth", "store", "core", "errors"]
"""From left to right: a module imports its own layer and those to its right."""
PLACES = {"__main__": "cli", "serve": "app"}
FREE = {"config": {"errors"}, "log": {"config", "errors"}, "metrics": {"errors"}}
"""What stands beside the layers, and may itself import no more than this."""

IMPURE = {
    *("apsw", "asyncio", "concurrent", "logging", "multiprocessing", "os", "pathlib", "random", "secrets", "select"),
    *(
        "signal",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
        "sys",
        "threading",
        "time",
        "uvicorn",
        "uvloop",
        "websockets",
    ),
}
OTHER_SQLITES = {"sqlite3", "libsql", "libsql_client", "libsql_experimental", "aiosqlite", "aiolibsql", "pysqlite3"}
OWN_PROCESSES = {"gateway/bench/writer.py"}
"""Programs that another process runs and nobody imports."""
OPENS_NO_FILE = {"gateway/store/ws_streams.py": {"libsql_client"}}
"""What imports another SQLite along with something else: harmless as long as no file is opened with it."""


def name(path: Path) -> str:
    return path.relative_to(TREE).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), name(path))


def imports(path: Path, *, for_types_too: bool = True) -> Iterator[str]:
    """Every module that a file imports, wherever in it."""
    unseen = set() if for_types_too else {id(node) for node in ast.walk(tree(path)) if is_for_types(node)}
    for node in nodes(tree(path), unseen):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: imports name the whole way"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names) if module == "gateway" else (module,)


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def nodes(node: ast.AST, unseen: set[int]) -> Iterator[ast.AST]:
    if id(node) not in unseen:
        yield node
        for child in ast.iter_child_nodes(node):
            yield from nodes(child, unseen)


def part(module: str) -> str:
    """``store`` for ``gateway.store.changes``, ``config`` for ``gateway.config``."""
    return module.split(".")[1] if "." in module else ""


GATEWAY = [path for path in SOURCES if name(path).startswith("gateway/")]
CORE = [path for path in SOURCES if name(path).startswith("gateway/core/")]


def allowed(own: str) -> set[str]:
    """The parts of the gateway that the part `own` may import."""
    if own in FREE:
        return FREE[own]
    if own == "bench":
        return {*LAYERS, *FREE, *PLACES}
    if own == "core":
        return {"errors"}
    if own == "__init__":
        return set()
    right = LAYERS[LAYERS.index(PLACES.get(own, own)) :]
    return {*right, *FREE, *(place for place, layer in PLACES.items() if layer in right)}


def test_imports_go_one_way() -> None:
    wrong = []
    for path in GATEWAY:
        own = part(name(path).removesuffix(".py").replace("/", "."))
        used = {part(module) for module in imports(path) if module.startswith("gateway.")} - {own, "__version__"}
        wrong += [f"{name(path)} imports {other}" for other in sorted(used - allowed(own))]
    assert wrong == []


def test_the_gateway_and_the_sdk_never_meet() -> None:
    wrong = []
    for path in SOURCES:
        other = "client_sdk" if path in GATEWAY else "gateway"
        roots = {module.split(".")[0] for module in imports(path)}
        if roots & {other, "tests"} and name(path) != "client_sdk/testing.py":
            wrong.append(name(path))
    assert wrong == []


def test_the_core_is_pure() -> None:
    wrong = []
    for path in CORE:
        wrong += [f"{name(path)} imports {module}" for module in imports(path) if module.split(".")[0] in IMPURE]
        for node in ast.walk(tree(path)):
            waits = isinstance(node, (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith))
            reads_clock = isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today")
            does_io = isinstance(node, ast.Name) and node.id in ("open", "print", "input")
            if waits or reads_clock or does_io:
                wrong.append(f"{name(path)}:{node.lineno} waits, reads a clock or does I/O")
    assert wrong == []


def test_one_sqlite_in_a_process() -> None:
    wrong = []
    for path in EVERYTHING:
        roots = {module.split(".")[0] for module in imports(path, for_types_too=False)}
        roots -= OPENS_NO_FILE.get(name(path), set())
        wrong += [name(path)] if roots & OTHER_SQLITES and name(path) not in OWN_PROCESSES else []
    assert wrong == []
    for path in EVERYTHING:
        modules = {name(own).removesuffix(".py").replace("/", ".") for own in map(TREE.joinpath, OWN_PROCESSES)}
        assert not modules & set(imports(path)), f"{name(path)} imports what runs in a process of its own"


SQL = re.compile(r"\s*(SELECT|INSERT INTO|UPDATE \w+ SET|DELETE FROM|CREATE (TABLE|TRIGGER|INDEX)|PRAGMA)\b")


def test_sql_is_in_the_store_alone() -> None:
    wrong = [
        f"{name(path)}:{node.lineno}"
        for path in SOURCES
        if not name(path).startswith(("gateway/store/", "gateway/bench/"))
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.match(node.value)
    ]
    assert wrong == []


REASON = re.compile(r"#\s*long: \w+")
"""``# long: why`` in the first line excuses a file or function that passes its bound."""


def test_files_and_functions_are_short() -> None:
    wrong = []
    for path in SOURCES:
        lines = path.read_text(encoding="utf-8").splitlines()
        if len(lines) > 400 and not REASON.search(lines[0]):
            wrong.append(f"{name(path)} has {len(lines)} lines")
        for node in ast.walk(tree(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > 40 and not REASON.search(lines[node.lineno - 1]):
                    wrong.append(f"{name(path)}:{node.lineno} {node.name} has {length} lines")
    assert wrong == []


def test_annotations_are_not_evaluated() -> None:
    wrong = []
    for path in EVERYTHING:
        body = [node for node in tree(path).body if not isinstance(node, ast.Expr)]
        if body and not (isinstance(body[0], ast.ImportFrom) and body[0].module == "__future__"):
            wrong.append(name(path))
    assert wrong == []


def test_public_names_are_documented() -> None:
    wrong = [name(path) for path in SOURCES if not ast.get_docstring(tree(path))]
    wrong += [
        f"{name(path)}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in tree(path).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert wrong == []


UNFINISHED = re.compile("TO" + "DO|FIX" + "ME|XX" + "X|raise NotImplemented|pragma: no " + "cover")


def test_nothing_is_left_undone() -> None:
    texts = {name(path): path.read_text(encoding="utf-8") for path in [*EVERYTHING, *DOCUMENTS]}
    del texts[name(Path(__file__))]
    assert {file: found[0] for file, text in texts.items() if (found := UNFINISHED.search(text))} == {}


WORN = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base"}


def test_a_file_is_called_by_what_it_holds() -> None:
    assert [name(path) for path in EVERYTHING if path.stem in WORN] == []


def test_no_two_test_files_have_one_name() -> None:
    counted = Counter(path.name for path in TESTS if path.name.startswith("test_"))
    assert [file for file, count in counted.items() if count > 1] == []


def test_warnings_are_errors_and_time_is_bounded() -> None:
    options = tomllib.loads((TREE / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert options["filterwarnings"][0] == "error"
    assert 0 < options["timeout"] <= 60
