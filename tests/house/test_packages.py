from __future__ import annotations

import importlib.metadata
import re
import subprocess
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TREE = Path(__file__).parents[2]
PROJECT = tomllib.loads((TREE / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def locked() -> dict[str, str]:
    lines = (TREE / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", pin) for pin in pins), (
        "pins without addresses, paths or hashes"
    )
    return {str(canonicalize_name(name)): version for name, _, version in (pin.partition("==") for pin in pins)}


def needed() -> dict[str, list[Requirement]]:
    """What the project asks for with all its extras, and what that asks for."""
    waiting = [
        *PROJECT["dependencies"],
        *(item for extra in PROJECT["optional-dependencies"].values() for item in extra),
    ]
    found: dict[str, list[Requirement]] = {}
    requirements = [Requirement(item) for item in waiting]
    while requirements:
        requirement = requirements.pop()
        if requirement.marker is not None and not any(
            requirement.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)
        ):
            continue
        name = str(canonicalize_name(requirement.name))
        is_new = name not in found
        found.setdefault(name, []).append(requirement)
        if is_new:
            requirements += map(Requirement, importlib.metadata.requires(name) or [])
    return found


def test_the_lock_holds_all_that_is_needed_and_nothing_else() -> None:
    assert set(locked()) == set(needed())


def test_the_locked_versions_are_those_asked_for() -> None:
    versions = locked()
    for name, requirements in needed().items():
        for requirement in requirements:
            assert requirement.specifier.contains(versions[name], prereleases=True), (
                f"{name} {versions[name]}: {requirement}"
            )


def test_the_test_extra_holds_the_others() -> None:
    """One installation for everything that make test and make bench run."""
    extras = PROJECT["optional-dependencies"]
    names = {Requirement(item).name for item in extras["test"]}
    assert all(Requirement(item).name in names for extra in extras.values() for item in extra)


def test_the_top_level_is_what_a_newcomer_expects() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=TREE, capture_output=True, text=True, check=True, timeout=30)
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert top <= {
        *("gateway", "client_sdk", "tests", "docs", "deploy", ".ci", ".gitignore", "schema.sql", "config.toml"),
        *("Procfile", "pyproject.toml", "requirements.lock", "Makefile", "README.md", "CHANGELOG.md"),
    }
