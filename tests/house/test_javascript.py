"""The rules of the house for JavaScript: types that hold, short files and functions, nothing from elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gateway.core.text import _ID, _NAME
from gateway.store.audit import ACTIONS
from gateway.web.operation import SEGMENT
from tests.support.node import run_node, typescript

TREE = Path(__file__).parents[2]
SDK = TREE / "client_sdk" / "js"
DASHBOARD = TREE / "gateway" / "web" / "dashboard"
SOURCES = sorted([*SDK.rglob("*.js"), *DASHBOARD.rglob("*.js")])
TESTS = sorted((TREE / "tests").rglob("*.mjs"))
PAGES = sorted([*DASHBOARD.rglob("*.html"), *DASHBOARD.rglob("*.css"), *DASHBOARD.rglob("*.svg")])


def name(path: Path) -> str:
    return path.relative_to(TREE).as_posix()


@pytest.mark.parametrize("directory", [SDK, DASHBOARD], ids=name)
def test_the_types_hold(directory: Path) -> None:
    project = directory / "tsconfig.json"
    written = project.read_text(encoding="utf-8")
    assert re.search(r'"strict":\s*true', written)
    assert re.search(r'"checkJs":\s*true', written)
    run_node(typescript(), "--project", project, "--noEmit")


def test_the_compiler_looks_at_every_file() -> None:
    for directory in (SDK, DASHBOARD):
        listed = run_node(typescript(), "--project", directory / "tsconfig.json", "--noEmit", "--listFilesOnly").stdout
        seen = {Path(line).resolve() for line in listed.splitlines()}
        assert [name(path) for path in SOURCES if directory in path.parents and path.resolve() not in seen] == []


def test_a_type_that_does_not_hold_is_found(tmp_path: Path) -> None:
    (tmp_path / "wrong.js").write_text("/** @type {number} */\nexport const wrong = 'text';\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="not assignable"):
        run_node(typescript(), "--checkJs", "--strict", "--noEmit", "--target", "es2022", tmp_path / "wrong.js")


def test_files_and_functions_are_short() -> None:
    wrong = []
    for path in SOURCES:
        lines = path.read_text(encoding="utf-8").splitlines()
        wrong += [f"{name(path)} has {len(lines)} lines"] if len(lines) > 400 else []
        wrong += [f"{name(path)}:{number} is too wide" for number, line in enumerate(lines, 1) if len(line) > 120]
    measure = TREE / "tests" / "support" / "function_lengths.mjs"
    measured = json.loads(run_node(measure, typescript().parent / "typescript.js", *SOURCES).stdout)
    assert len(measured) > len(SOURCES)
    for file, line, called, length in measured:
        wrong += [f"{name(Path(file))}:{line} {called} has {length} lines"] if length > 40 else []
    assert wrong == []


UNFINISHED = re.compile("TO" + "DO|FIX" + "ME|XX" + "X|debug" + "ger;|console\\.log")


def test_nothing_is_left_undone() -> None:
    texts = {name(path): path.read_text(encoding="utf-8") for path in [*SOURCES, *PAGES, *TESTS]}
    measuring = "tests/support/function_lengths.mjs"
    assert {file: f[0] for file, text in texts.items() if (f := UNFINISHED.search(text)) and file != measuring} == {}


FROM_ELSEWHERE = re.compile(r"https?://(?!www\.w3\.org/)[\w.-]+")
INJECTING = re.compile(r"\.(innerHTML|outerHTML|insertAdjacentHTML|srcdoc)\b|document\.write|\beval\(|new Function\b")


def test_the_dashboard_loads_nothing_from_elsewhere_and_writes_no_markup() -> None:
    for path in [*DASHBOARD.rglob("*.js"), *PAGES]:
        code = re.sub(r"/\*.*?\*/|^\s*//.*$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        assert FROM_ELSEWHERE.search(code) is None, name(path)
        assert INJECTING.search(code) is None, name(path)


def test_paths_are_made_of_parts_in_one_place_which_knows_what_the_gateway_takes() -> None:
    """Of the names in the dashboard's requests; the router's are those of the page's own address."""
    makers = [path.name for path in SOURCES if DASHBOARD in path.parents and "encodeURIComponent" in path.read_text()]
    assert makers == ["api.js", "router.js"]
    api, names = ((DASHBOARD / file).read_text(encoding="utf-8") for file in ("api.js", "names.js"))
    assert f"/^{SEGMENT.pattern}$/" in api
    assert {f"/^{pattern.pattern}$/" in names for pattern in (_NAME, _ID)} == {True}


def test_the_dashboard_offers_every_action_of_the_audit_trail() -> None:
    text = (DASHBOARD / "pages" / "admin" / "audit.js").read_text(encoding="utf-8")
    listed = re.search(r"const ACTIONS = \[(.*?)\];", text, re.DOTALL)
    assert listed is not None
    assert re.findall(r'"([a-z._]+)"', listed[1]) == list(ACTIONS)


IMPORTED = re.compile(
    r"""^\s*(?:(?:import|export)\b[^;"'()]*?\bfrom\s*|import\s*)["']([^"']+)["']|\bimport\(["']([^"']+)["']\)""",
    re.MULTILINE,
)


def test_imports_are_of_files_that_are_there() -> None:
    """The SDK imports its own files alone; the dashboard its own and the SDK's entry."""
    wrong = []
    for path in SOURCES:
        for match in IMPORTED.finditer(path.read_text(encoding="utf-8")):
            module = match[1] or match[2]
            if module == "/sdk/gateway.js" and DASHBOARD in path.parents:
                continue
            target = (path.parent / module).resolve()
            root = SDK if SDK in path.parents else DASHBOARD
            if not module.startswith(".") or not target.is_file() or root not in target.parents:
                wrong.append(f"{name(path)} imports {module}")
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        'import x from "left-pad";',
        'import "left-pad";',
        'import {\n  a,\n  b,\n} from "left-pad";',
        'export * from "left-pad";',
        "export {\n  a,\n} from 'left-pad';",
        'const a = await import("left-pad");',
        '/** @typedef {import("left-pad").A} A */',
    ],
)
def test_every_way_to_import_is_seen(text: str) -> None:
    assert [match[1] or match[2] for match in IMPORTED.finditer(text)] == ["left-pad"]


def imported_at_once(path: Path) -> list[Path]:
    """The modules without which this one does not start; what `import()` loads is asked for when it is wanted."""
    modules = [match[1] for match in IMPORTED.finditer(path.read_text(encoding="utf-8")) if match[1]]
    return [SDK / one[5:] if one.startswith("/sdk/") else (path.parent / one).resolve() for one in modules]


def test_the_page_names_every_module_that_it_can_not_start_without() -> None:
    """So they are asked for together; one that is not named is asked for when the module that imports it has come."""
    needed = [DASHBOARD / "app.js"]
    for path in needed:
        needed += [module for module in imported_at_once(path) if module not in needed]
    addresses = [
        f"/sdk/{path.relative_to(SDK).as_posix()}"
        if SDK in path.parents
        else f"/dashboard/{path.relative_to(DASHBOARD).as_posix()}"
        for path in needed[1:]
    ]
    lines = [f'<link rel="modulepreload" href="{address}">' for address in sorted(addresses)]
    page = (DASHBOARD / "index.html").read_text(encoding="utf-8")
    there = [line for line in page.splitlines() if "modulepreload" in line]
    assert there == lines, "index.html has to have these lines:\n" + "\n".join(lines)
