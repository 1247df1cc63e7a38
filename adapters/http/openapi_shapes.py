"""The JSON Schemas in the API's document: those of msgspec, named and completed for readers."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from attrs import frozen
from msgspec import Struct

from adapters.http.errors import MESSAGE, STATUS, status_of
from adapters.http.routes import PlainRoute, Route
from adapters.http.shapes import ErrorAnswer
from domain.errors import PaymentError

Object = dict[str, Any]

SCHEMA = "#/components/schemas/"


@frozen
class Shapes:
    """The JSON Schemas of every shape the routes name, under tidy names."""

    names: Mapping[Any, str]  # shape to schema
    schemas: Mapping[str, Object]
    parameters: frozenset[str]  # these are taken apart, and nobody refers to them

    @classmethod
    def of(cls, routes: Iterable[Route | PlainRoute]) -> "Shapes":
        json = [route for route in routes if isinstance(route, Route)]
        asked = {shape for route in json for shape in (route.body, route.parameters) if shape}
        told = {route.answer for route in json} | {ErrorAnswer}
        shapes = sorted(asked | told, key=str)
        references, found = msgspec.json.schema_components(shapes, ref_template=SCHEMA + "{name}")
        tidy = {name: tidy_name(schema.get("title", name)) for name, schema in found.items()}
        schemas = {tidy[name]: _renamed(schema, tidy) for name, schema in sorted(found.items())}
        names = {
            shape: tidy[one["$ref"].removeprefix(SCHEMA)]
            for shape, one in zip(shapes, references, strict=True)
        }
        for name in _reachable(schemas, {names[shape] for shape in told}):
            _complete(schemas[name])
        codes = listed()
        schemas["ErrorCode"] = {
            "type": "string",
            "enum": list(codes),
            "description": "\n".join(
                f"- `{code}`（{status}）{MESSAGE[code]}" for code, status in codes.items()
            ),
        }
        schemas["ErrorView"]["properties"]["code"] = {"$ref": SCHEMA + "ErrorCode"}
        parameters = frozenset(names[route.parameters] for route in json if route.parameters)
        return cls(names, schemas, parameters)

    @property
    def public(self) -> dict[str, Object]:
        """What the document's components hold."""
        return {name: schema for name, schema in self.schemas.items() if name not in self.parameters}

    def ref(self, shape: type[Struct]) -> Object:
        """Where the document describes the shape."""
        return {"$ref": SCHEMA + self.names[shape]}

    def schema(self, shape: type[Struct]) -> Object:
        """The shape's own schema."""
        return self.schemas[self.names[shape]]


def listed() -> dict[str, int]:
    """The status of every code that any call may answer with, by status and code."""
    kinds = [PaymentError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    found = {
        kind.code: status_of(kind)
        for kind in kinds[1:]
        if kind.code in MESSAGE and {*kind.__mro__} & {*STATUS}
    }
    return dict(sorted(found.items(), key=lambda one: (one[1], one[0])))


def tidy_name(title: str) -> str:
    """`Success[tuple[some.module.View, ...]]` becomes `Success_list_View`."""
    bare = re.sub(r"[\w.]+\.(?=\w)", "", title).replace("tuple", "list")
    return "_".join(re.findall(r"\w+", bare))


def _renamed(schema: Any, tidy: Mapping[str, str]) -> Any:
    """The schema with its references under tidy names."""
    if isinstance(schema, list):
        return [_renamed(part, tidy) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: SCHEMA + tidy[part.removeprefix(SCHEMA)] if key == "$ref" else _renamed(part, tidy)
        for key, part in schema.items()
    }


def _references(schema: Any) -> Iterator[str]:
    """The names that a schema refers to."""
    if isinstance(schema, list):
        for part in schema:
            yield from _references(part)
    elif isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"].removeprefix(SCHEMA)
        for part in schema.values():
            yield from _references(part)


def _reachable(schemas: Mapping[str, Object], names: set[str]) -> set[str]:
    """These schemas and all that they are made of."""
    found, fresh = set(names), set(names)
    while fresh:
        fresh = {name for one in fresh for name in _references(schemas[one])} - found
        found |= fresh
    return found


def _complete(schema: Object) -> None:
    """An answer leaves nothing out because it is the default."""
    properties = schema.get("properties", {})
    always = set(schema.get("required", ())) | {name for name, one in properties.items() if "default" in one}
    for one in properties.values():
        one.pop("default", None)
    if always:
        schema["required"] = [name for name in properties if name in always]
