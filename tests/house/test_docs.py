from __future__ import annotations

import ast
import re
from pathlib import Path

import click
import msgspec

import gateway.errors
from gateway.cli.exits import ExitCode
from gateway.cli.program import gateway as program
from gateway.config import SECTIONS, environment_name
from gateway.errors import Ending, GatewayError

TREE = Path(__file__).parents[2]
DOCUMENTS = [TREE / "README.md", TREE / "CHANGELOG.md", *sorted((TREE / "docs").glob("*.md"))]
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)


def document(name: str) -> str:
    return (TREE / "docs" / name).read_text(encoding="utf-8")


SETTINGS = [(section, field) for section, kind in SECTIONS.items() for field in msgspec.structs.fields(kind)]


def default(field: msgspec.structs.FieldInfo) -> str:
    """A default as the table shows it."""
    value = ",".join(field.default) if isinstance(field.default, tuple) else field.default
    if value == "":
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def test_every_setting_is_described_with_its_default() -> None:
    rows = [line.strip("|").split("|") for line in document("configuration.md").splitlines() if "`GATEWAY_" in line]
    described = [tuple(cell.strip() for cell in row[:3]) for row in rows if len(row) == 4 and len(row[3]) > 15]
    assert described == [
        (f"`{field.name}`", default(field), f"`{environment_name(section, field.name)}`") for section, field in SETTINGS
    ]


def test_no_setting_is_described_that_does_not_exist() -> None:
    known = {environment_name(section, field.name) for section, field in SETTINGS}
    known |= {"GATEWAY_CONFIG", "GATEWAY_AUTH_TOKEN", "GATEWAY_REQUIRE_ALL", "GATEWAY_SECTION_NAME"}
    known |= {"GATEWAY_URL", "GATEWAY_INSTANCE", "GATEWAY_INSTANCE_KID", "GATEWAY_INSTANCE_SECRET"}
    assert set(re.findall(r"GATEWAY_[A-Z0-9_]+[A-Z]", TEXT)) <= known


def commands(group: click.Group, path: str) -> dict[str, click.Command]:
    """Every command by its whole name, groups left out."""
    found = {}
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group) and name != "bench":
            found |= commands(command, f"{path} {name}")
        else:
            found[f"{path} {name}"] = command
    return found


def test_every_command_and_option_is_described() -> None:
    rows = re.findall(r"^\| `(gateway .*?)` \| (.*) \|$", document("cli.md"), re.MULTILINE)
    described = {re.split(r" (?=[\[A-Z.]|$)", usage)[0]: usage + text for usage, text in rows}
    expected = commands(program, "gateway")
    assert described.keys() == expected.keys()
    missing = [
        f"{path} {option}"
        for path, command in expected.items()
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and option not in ("--json", "--help") and option not in described[path]
    ]
    assert missing == []


def test_every_exit_code_is_described() -> None:
    rows = re.findall(r"^\| (\d+) \| \S", document("cli.md"), re.MULTILINE)
    assert [int(row) for row in rows] == [code.value for code in ExitCode]


def test_every_error_code_is_described() -> None:
    kinds = [
        kind for kind in vars(gateway.errors).values() if isinstance(kind, type) and issubclass(kind, GatewayError)
    ]
    assert [kind.code for kind in kinds if f"`{kind.code}`" not in TEXT] == []


def test_every_ending_is_described() -> None:
    lines = TEXT.splitlines()
    missing = [
        f"{ending.close} {ending.code} {ending.reconnect}"
        for ending in Ending
        if not any(
            re.search(rf"\b{ending.close}\b.*`{ending.code}`.*\b{ending.reconnect}\b", line.replace("`reconnect`", ""))
            for line in lines
        )
    ]
    assert missing == []


def metrics() -> set[str]:
    """Every name that a metric is given somewhere."""
    found = set()
    for path in (TREE / "gateway").rglob("*.py"):
        if "bench" not in path.parts:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found |= set(re.findall(r"\Agateway_[a-z_]+\Z", node.value))
    return found


def test_every_metric_is_described() -> None:
    assert [metric for metric in sorted(metrics()) if not re.search(rf"`{metric}(_total)?`", TEXT)] == []


def test_links_lead_somewhere() -> None:
    wrong = [
        f"{path.name} names {target}"
        for path in DOCUMENTS
        for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8"))
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert wrong == []


def test_the_readme_lists_the_documents() -> None:
    readme = (TREE / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in sorted((TREE / "docs").glob("*.md")) if f"(docs/{path.name})" not in readme] == []
