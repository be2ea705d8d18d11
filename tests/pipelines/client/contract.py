"""The official contract of KFP's API (Swagger 2.0), as a strict check of requests and answers."""

import copy
import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft4Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

FILE = Path(__file__).parents[4] / "shared/kfp-api/kfp_api_single_file.swagger.json"
"""It lies beside the checkout, not in it."""

# The real server says more of itself here than its contract has: tag_name and commit_sha.
_OPEN_DEFINITIONS = {"v2beta1GetHealthzResponse", "protobufAny"}
_ROOT = "urn:kfp"


class ContractError(AssertionError):
    """A request or an answer that the contract does not allow."""


@dataclass(frozen=True)
class Operation:
    """One call of the API."""

    name: str
    path: str
    definition: dict[str, Any]


class Contract:
    """Checks against a Swagger file: no unknown call, parameter or field, and every value as it is declared."""

    def __init__(self, file: Path = FILE) -> None:
        swagger = json.loads(file.read_text())
        self._operations = [
            (
                method.upper(),
                re.compile(re.sub(r"\{[^/}]+\}", "([^/:]+)", path) + "$"),
                Operation(definition["operationId"], path, definition),
            )
            for path, methods in swagger["paths"].items()
            for method, definition in methods.items()
        ]
        strict = copy.deepcopy(swagger)
        for name, schema in strict["definitions"].items():
            if "properties" in schema and name not in _OPEN_DEFINITIONS:
                schema.setdefault("additionalProperties", False)
        resource = Resource(contents=strict, specification=DRAFT4)
        self._registry = Registry().with_resource(_ROOT, resource)

    def operation(self, method: str, path: str) -> Operation:
        """The call that a method and a path mean; a fixed path comes before one with a place for an id."""
        found = [op for verb, pattern, op in self._operations if verb == method and pattern.match(unquote(path))]
        if not found:
            raise ContractError(f"the contract has no call {method} {path}")
        return min(found, key=lambda op: op.path.count("{"))

    def check_request(self, operation: Operation, query: dict[str, str], body: Any, files: set[str]) -> None:
        """Raise unless the call's parameters, body and files are as declared."""
        declared = {(one["in"], one["name"]): one for one in operation.definition.get("parameters", [])}
        for name, text in query.items():
            if ("query", name) not in declared:
                raise ContractError(f"{operation.name}: no query parameter {name!r}")
            if declared["query", name].get("type") == "integer" and not text.lstrip("-").isdigit():
                raise ContractError(f"{operation.name}: {name}={text!r} is no integer")
        wanted = next((one["schema"] for (place, _), one in declared.items() if place == "body"), None)
        if (wanted is None) != (body is None):
            raise ContractError(f"{operation.name}: body {body!r} where the contract has {wanted!r}")
        if wanted is not None:
            self._check(wanted, body, f"request of {operation.name}")
        if files != {name for place, name in declared if place == "formData"}:
            raise ContractError(f"{operation.name}: files {files}")

    def check_answer(self, operation: Operation, status: int, body: Any) -> None:
        """Raise unless an answer is what the contract has for its status."""
        answers = operation.definition["responses"]
        schema = answers.get(str(status), answers["default"])["schema"]
        self._check(schema, body, f"answer {status} of {operation.name}")

    def _check(self, schema: dict[str, Any], value: Any, what: str) -> None:
        absolute = json.loads(json.dumps(schema).replace('"#/', f'"{_ROOT}#/'))
        formats = FormatChecker(formats=[])
        formats.checks("date-time", raises=ValueError)(_is_time)
        formats.checks("int64", raises=ValueError)(lambda text: not isinstance(text, str) or int(text) is not None)
        validator = Draft4Validator(absolute, registry=self._registry, format_checker=formats)
        for error in validator.iter_errors(value):
            where = "/".join(str(part) for part in error.absolute_path)
            raise ContractError(f"{what}: {where or 'body'}: {error.message[:500]}")


def _is_time(text: Any) -> bool:
    """RFC 3339: a date, a time and a zone."""
    return not isinstance(text, str) or datetime.fromisoformat(text).tzinfo is not None
