"""A report: a pydantic class that is one JSON file, or a part of one."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic import ValidationError as PydanticError

from loraline.errors import ValidationError


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Measured = Annotated[float | None, BeforeValidator(_finite)]
"""A figure that may have come out as NaN or infinite: it is None then, because JSON has no word for it."""


class Report(BaseModel):
    """A report, or a part of one. It is immutable; what a later release added is ignored when it is read."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", ser_json_inf_nan="null", protected_namespaces=(), use_attribute_docstrings=True
    )

    FILE: ClassVar[str] = ""
    """Name of the file in the folder of the step that writes it; empty for a part of another report."""

    def save(self, folder: Path) -> None:
        """Write the report into a folder, which is made where it does not exist."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / self.FILE).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the report from a folder.

        Raises:
            ValidationError: the file is missing, or is not this report.
        """
        path = folder / cls.FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise ValidationError(f"there is no {cls.FILE} in {folder}") from error
        except PydanticError as error:
            raise ValidationError(f"{path} cannot be read as {cls.__name__}: {first_problem(error)}") from error


def first_problem(error: PydanticError) -> str:
    """The first thing that pydantic objects to, with the field: `kl_divergence.max: Field required`."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


class StepIdentity(Report):
    """What a step's result depended on beside its settings and inputs: its code and the libraries that computed it."""

    code: str
    """SHA-256 over the code that the result depends on (`loraline.identity.code`)."""
    libraries: dict[str, str]
    """Version of each library that computes in the step, as installed where it ran."""

    @property
    def digest(self) -> str:
        """SHA-256 over both."""
        content = json.dumps([self.code, self.libraries], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()


ReportT = TypeVar("ReportT", bound=Report)


def write_lines(reports: Iterable[Report], path: Path) -> None:
    """Write reports as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{report.model_dump_json()}\n" for report in reports)


def read_lines(kind: type[ReportT], path: Path) -> Iterator[ReportT]:
    """Read JSON lines as reports of a class.

    Raises:
        FileNotFoundError: there is no such file.
        ValidationError: a line is something else.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield kind.model_validate_json(line)
                except PydanticError as error:
                    problem = first_problem(error)
                    raise ValidationError(
                        f"line {number} of {path} cannot be read as {kind.__name__}: {problem}"
                    ) from error
