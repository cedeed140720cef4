"""Holds answers and frames to a document that describes them: OpenAPI, AsyncAPI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import referencing
import referencing.jsonschema
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

Json = dict[str, Any]
PLACE = "urn:description"


class Description:
    """A document, and JSON Schemas in it by their place."""

    def __init__(self, document: Json) -> None:
        self.document = document
        resource = referencing.jsonschema.DRAFT202012.create_resource(document)
        self._registry: referencing.Registry[Any] = referencing.Registry().with_resource(PLACE, resource)

    def faults(self, value: Any, *place: str) -> list[str]:
        """What is wrong with `value` by the schema at this place in the document."""
        pointer = "/".join(quote(part.replace("~", "~0").replace("/", "~1"), safe="~") for part in place)
        validator = Draft202012Validator({"$ref": f"{PLACE}#/{pointer}"}, registry=self._registry)
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]

    def resolved(self, value: Json) -> Json:
        """What a reference leads to; anything else is what it is. Raises KeyError for one that leads nowhere."""
        while "$ref" in value:
            value = self.at(value["$ref"])
        return value

    def at(self, reference: str) -> Any:
        """What stands at ``#/…``."""
        found: Any = self.document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
        return found

    def references(self) -> Iterator[str]:
        """Every reference in the document."""
        yield from (value for name, value in _members(self.document) if name == "$ref")


def answer_faults(
    description: Description, method: str, path: str, status: int, headers: Mapping[str, str], body: Any
) -> list[str]:
    """What an OpenAPI document does not allow of an answer: its status, its media type, its headers, its body (None:
    there is none). Names of `headers` are in lower case."""
    responses = description.document["paths"][path][method.lower()]["responses"]
    if str(status) not in responses:
        return [f"{status} is not described"]
    response = description.resolved(responses[str(status)])
    faults = []
    for name, header in response.get("headers", {}).items():
        if description.resolved(header).get("required") and name.lower() not in headers:
            faults.append(f"{name} is missing")
    given = headers.get("content-type", "").partition(";")[0]
    content = response.get("content", {})
    if given not in content:
        return faults + ([f"{given or 'no content'} is not described"] if content or given else [])
    if not given.endswith("json"):
        return faults
    reference = responses[str(status)].get("$ref")
    place = (
        reference.removeprefix("#/").split("/")
        if reference
        else ["paths", path, method.lower(), "responses", str(status)]
    )
    return faults + description.faults(body, *place, "content", given, "schema")


def schemas(document: Json) -> Iterator[Json]:
    """Every JSON Schema of a description that stands in a media type, a parameter, a header or the components."""
    yield from document["components"].get("schemas", {}).values()
    yield from (value for name, value in _members(document) if name == "schema")


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name, inner
            yield from _members(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _members(inner)
