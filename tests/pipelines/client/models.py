"""KFP's own models (kfp_server_api) as a strict reading and writing of JSON."""

import re
from datetime import datetime
from typing import Any

import kfp_server_api
from kfp_server_api import models

_PLAIN = {"str": str, "bool": bool, "int": int, "float": (int, float)}
_WRITER = kfp_server_api.ApiClient()


class ModelError(AssertionError):
    """JSON that is not what one of KFP's models takes."""


def read(kind: str, value: Any, where: str = "body") -> Any:
    """JSON as a model of KFP's; the official client's own reading ignores unknown fields and types."""
    container = re.fullmatch(r"(?:list\[|dict\(str, )(.+)[\])]", kind)
    if container and kind.startswith("list"):
        return [read(container[1], one, f"{where}[]") for one in value]
    if container:
        return {name: read(container[1], one, f"{where}.{name}") for name, one in value.items()}
    if kind == "datetime":
        return datetime.fromisoformat(value)
    if kind != "object" and kind not in _PLAIN:
        return _read_model(getattr(models, kind), value, where)
    if not isinstance(value, _PLAIN.get(kind, object)):
        raise ModelError(f"{where}: {value!r} is no {kind}")
    return value


def _read_model(model: Any, value: Any, where: str) -> Any:
    if not model.openapi_types:  # an enumeration
        if value not in model.allowable_values:
            raise ModelError(f"{where}: {value!r} is none of {model.allowable_values}")
        return value
    fields = {name: attribute for attribute, name in model.attribute_map.items()}
    unknown = set(value) - set(fields)
    if unknown:
        raise ModelError(f"{where}: {model.__name__} has no field {sorted(unknown)}")
    kinds = model.openapi_types
    return model(**{fields[name]: read(kinds[fields[name]], one, f"{where}.{name}") for name, one in value.items()})


def write(model: Any) -> Any:
    """A model as JSON, read back strictly, so that no double of ours says what KFP could not."""
    value = _WRITER.sanitize_for_serialization(model)
    if hasattr(model, "openapi_types"):
        read(type(model).__name__, value)
    return value
