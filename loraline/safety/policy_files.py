"""Policies as files: those that are shipped, those of one's own, and the one that travels with a model."""

import difflib
import tempfile
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError as PydanticValidationError
from pydantic_core import ErrorDetails

from loraline import storage
from loraline.errors import ConfigurationError
from loraline.identity.digests import digest_folder, write_atomically
from loraline.safety.policy import Policy

POLICY_FILE = "policy.yaml"
"""The policy's name in a model's folder."""

_SHIPPED = Path(__file__).parent


def shipped_policies() -> list[str]:
    """Names of the policies that come with Loraline."""
    return sorted(file.stem for file in _SHIPPED.glob("*.yaml"))


def load_policy(source: str) -> Policy:
    """Read a policy.

    Args:
        source: a shipped policy's name, the path of a YAML file, or s3://bucket/policy.yaml.

    Raises:
        ConfigurationError: there is no such policy, or with every invalid value at once.
        StorageError: the object store does not have it, or does not answer.
    """
    if source.startswith("s3://"):
        with tempfile.TemporaryDirectory() as folder:
            files = storage.download(source, Path(folder))
            if len(files) != 1:
                raise ConfigurationError(f"{source} is not one file but {len(files)}; give the policy's own address")
            return _read(files[0], source)
    shipped = _SHIPPED / f"{source}.yaml"
    if "/" not in source and shipped.is_file():
        return _read(shipped, source)
    path = Path(source).expanduser()
    if path.is_file():
        return _read(path, source)
    near = difflib.get_close_matches(source, shipped_policies(), n=1)
    raise ConfigurationError(
        f"no policy {source!r}: it is neither a file nor one of those shipped: {', '.join(shipped_policies())}."
        + (f" Did you mean {near[0]!r}?" if near else "")
    )


def write_policy(policy: Policy, folder: Path) -> None:
    """Put a policy into a model's folder, so that it goes where the model goes."""
    text = yaml.dump(policy.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    write_atomically(folder / POLICY_FILE, text)


def read_policy(folder: Path) -> Policy | None:
    """The policy that travels with a model's folder; none where there is none.

    Raises:
        ConfigurationError: the file is there, and is not a policy.
    """
    path = folder / POLICY_FILE
    return _read(path, str(path)) if path.is_file() else None


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent)


def _read(path: Path, source: str) -> Policy:
    try:
        text = path.read_text(encoding="utf-8")
        tree, values = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"policy {source} is not YAML: {error}") from error
    if tree is None or not isinstance(values, dict):
        raise ConfigurationError(f"policy {source} holds {values!r}; a policy is a mapping with name, categories, ...")
    if twice := _repeated_keys(tree):
        raise ConfigurationError(f"policy {source} says things twice:\n" + "\n".join(twice))
    try:
        policy = Policy.model_validate(values)
    except PydanticValidationError as error:
        problems = [line for one in error.errors() for line in _problem(one, tree)]
        raise ConfigurationError(
            f"policy {source} has {len(problems)} invalid value{'s' * (len(problems) > 1)}:\n" + "\n".join(problems)
        ) from error
    return _pin_classifier(policy, path.parent)


def _pin_classifier(policy: Policy, folder: Path) -> Policy:
    """Name the classifier's bytes, so that a change of them is a change of the policy."""
    if policy.classifier is None:
        return policy
    beside = folder / Path(policy.classifier.model).expanduser()
    if beside.is_dir():
        pinned = {"model": str(beside.resolve()), "revision": policy.classifier.revision or digest_folder(beside)}
        return policy.model_copy(update={"classifier": policy.classifier.model_copy(update=pinned)})
    if not policy.classifier.revision:
        raise ConfigurationError(
            f"the classifier {policy.classifier.model!r} is no folder, and on the Hub a name may mean other bytes "
            "tomorrow: write the commit as classifier.revision"
        )
    return policy


def _problem(error: ErrorDetails, tree: yaml.Node) -> list[str]:
    """An invalid value: its line in the file, its path, the value, and what is allowed there."""
    path, line = ".".join(str(part) for part in error["loc"]), f"  line {_line(tree, error['loc'])}"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not error["loc"]:  # what does not fit together
        return [f"  {one}" for one in message.splitlines()]
    if error["type"] == "missing":
        return [f"{line}: {path} is missing"]
    if error["type"] == "extra_forbidden":
        return [f"{line}: {path} = {error['input']!r}: there is no such setting"]
    if error["type"] == "string_type" and isinstance(error["input"], dict):
        message += " (YAML takes ': ' for a mapping: put the text in single quotes)"
    return [f"{line}: {path} = {error['input']!r}: {message}"]


def _line(node: yaml.Node, path: tuple[int | str, ...]) -> int:
    """The line on which a value stands, or what is nearest to it."""
    for part in path:
        found: Any = None
        if isinstance(node, yaml.MappingNode):
            found = next((value for key, value in node.value if key.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            found = node.value[part]
        if found is None:
            break
        node = found
    return int(node.start_mark.line) + 1


def _repeated_keys(node: yaml.Node) -> list[str]:
    """Keys that stand twice in one mapping, of which YAML would silently take the last."""
    found: list[str] = []
    if isinstance(node, yaml.SequenceNode):
        return [problem for one in node.value for problem in _repeated_keys(one)]
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = int(key.start_mark.line) + 1
            if key.value in seen:
                found.append(f"  line {line}: {key.value!r} stands on line {seen[key.value]} already")
            seen.setdefault(key.value, line)
            found += _repeated_keys(value)
    return found
