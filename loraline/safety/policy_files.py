"""Read and write policy files: shipped policies, the user's own, and the copy in a model folder."""

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
from loraline.models.model_files import POLICY_FILE
from loraline.safety.policy import Policy

_SHIPPED = Path(__file__).parent


def shipped_policies() -> list[str]:
    """Names of the policies that come with Loraline."""
    return sorted(file.stem for file in _SHIPPED.glob("*.yaml"))


def load_policy(source: str) -> Policy:
    """Load a policy.

    Args:
        source: a shipped policy's name, the path of a YAML file, or s3://bucket/policy.yaml.

    Raises:
        ConfigurationError: the policy does not exist or has invalid values; the message lists all of them.
        StorageError: the object store does not have it or cannot be reached.
    """
    if source.startswith("s3://"):
        with tempfile.TemporaryDirectory() as folder:
            files = storage.download(source, Path(folder))
            if len(files) != 1:
                raise ConfigurationError(f"{source} is {len(files)} files; give the address of one policy file")
            return _read(files[0], source)
    shipped = _SHIPPED / f"{source}.yaml"
    if "/" not in source and shipped.is_file():
        return _read(shipped, source)
    path = Path(source).expanduser()
    if path.is_file():
        return _read(path, source)
    similar = difflib.get_close_matches(source, shipped_policies(), n=1)
    raise ConfigurationError(
        f"no policy {source!r}: it is neither a file nor a shipped policy ({', '.join(shipped_policies())})."
        + (f" Did you mean {similar[0]!r}?" if similar else "")
    )


def write_policy(policy: Policy, folder: Path) -> None:
    """Write a policy into a model folder, so that it is published with the model."""
    text = yaml.dump(policy.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    write_atomically(folder / POLICY_FILE, text)


def read_policy(folder: Path) -> Policy | None:
    """Read the policy in a model folder; None without one.

    Raises:
        ConfigurationError: the file is not a valid policy.
    """
    path = folder / POLICY_FILE
    return _read(path, str(path)) if path.is_file() else None


class _Dumper(yaml.SafeDumper):
    """Writes multi-line strings in block style."""


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
        raise ConfigurationError(f"policy {source} contains {values!r}, and not a mapping with name, categories, ...")
    if duplicates := _duplicate_keys(tree):
        raise ConfigurationError(f"policy {source} has duplicate keys:\n" + "\n".join(duplicates))
    try:
        policy = Policy.model_validate(values)
    except PydanticValidationError as error:
        problems = [line for one in error.errors() for line in _describe_error(one, tree)]
        raise ConfigurationError(
            f"policy {source} has {len(problems)} invalid value{'s' * (len(problems) > 1)}:\n" + "\n".join(problems)
        ) from error
    return _pin_classifier(policy, path.parent)


def _pin_classifier(policy: Policy, folder: Path) -> Policy:
    """Pin the classifier's content, so that a changed classifier is a changed policy."""
    if policy.classifier is None:
        return policy
    local = folder / Path(policy.classifier.model).expanduser()
    if local.is_dir():
        pinned = {"model": str(local.resolve()), "revision": policy.classifier.revision or digest_folder(local)}
        return policy.model_copy(update={"classifier": policy.classifier.model_copy(update=pinned)})
    if not policy.classifier.revision:
        raise ConfigurationError(
            f"the classifier {policy.classifier.model!r} is not a folder but a Hub model, whose files can change: pin "
            "the commit as classifier.revision"
        )
    return policy


def _describe_error(error: ErrorDetails, tree: yaml.Node) -> list[str]:
    """Describe an invalid value: line in the file, path, value and what is allowed."""
    path, line = ".".join(str(part) for part in error["loc"]), f"  line {_line(tree, error['loc'])}"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not error["loc"]:  # from the consistency check of the whole policy
        return [f"  {one}" for one in message.splitlines()]
    if error["type"] == "missing":
        return [f"{line}: {path} is missing"]
    if error["type"] == "extra_forbidden":
        return [f"{line}: {path} = {error['input']!r}: there is no such setting"]
    if error["type"] == "string_type" and isinstance(error["input"], dict):
        message += " (YAML reads ': ' as a mapping: put the text in single quotes)"
    return [f"{line}: {path} = {error['input']!r}: {message}"]


def _line(node: yaml.Node, path: tuple[int | str, ...]) -> int:
    """The line of a value in the file, or of its nearest parent."""
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


def _duplicate_keys(node: yaml.Node) -> list[str]:
    """Duplicate keys in a mapping, of which YAML silently keeps the last."""
    found: list[str] = []
    if isinstance(node, yaml.SequenceNode):
        return [problem for one in node.value for problem in _duplicate_keys(one)]
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = int(key.start_mark.line) + 1
            if key.value in seen:
                found.append(f"  line {line}: {key.value!r} is already on line {seen[key.value]}")
            seen.setdefault(key.value, line)
            found += _duplicate_keys(value)
    return found
