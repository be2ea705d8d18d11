"""Which tensors of a checkpoint's files hold which parameters of a model.

Names in the files differ from the parameters' names in many families (`model.language_model.layers...` for
`model.layers...`), and some weights are joined or split on loading (a tensor for each expert becomes one for all).
transformers knows how (`transformers.conversion_mapping`); here its own transforms are run on names, and on row numbers
in place of weights, so that a weight can be written back under the name and in the form in which it is stored.

`StoredLayout(network, shapes).parts("model.layers.0.mlp.experts.gate_up_proj")` gives a `StoredPart` for each stored
tensor: `model.layers.0.mlp.experts.3.up_proj.weight` with the rows of the parameter that it holds. An update of a
parameter is written by going through its parts; a tensor that is in no part is copied. No weights are needed.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

from loraline.errors import ModelLoadingError


@dataclass(frozen=True)
class StoredPart:
    """What one stored tensor holds of one parameter."""

    tensor: str
    """Name of the tensor in the files."""
    rows: torch.Tensor | None = None
    """None: the tensor is the parameter as it stands. Else, for each row of the tensor (all but its last dimension,
    flattened), the row of the parameter (likewise) that it is, or -1 where it belongs to another parameter."""
    transposed: bool = False
    """Whether the tensor's last two dimensions are swapped against the parameter's; `rows` then counts its columns."""


@dataclass
class _Group:
    """Stored tensors that become one or more parameters together."""

    converter: WeightConverter
    tensors: dict[str, list[str]] = field(default_factory=dict)
    """Names of the stored tensors, by the pattern that each matched, in the order in which they are joined."""


class StoredLayout:
    """The stored tensors of each parameter of a model."""

    def __init__(self, network: PreTrainedModel, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Map names, as transformers does on loading.

        Args:
            network: the model, on the meta device or not.
            shapes: shapes of the tensors in the files, by name.
        """
        self._network, self._shapes = network, shapes
        self._parameters: dict[str, Any] = network.state_dict()
        self._tensors: dict[str, str] = {}
        """The tensor of each parameter that is stored as it stands."""
        self._groups: dict[str, _Group] = {}
        """By the first parameter that a group becomes, as transformers keeps them."""
        self._group_of: dict[str, str] = {}
        """The key of its group for each parameter that is made of one."""
        self.unused: list[str] = []
        """Tensors that the model does not have, such as an image tower beside a text model."""
        self._map_names()

    def parts(self, parameter: str) -> list[StoredPart]:
        """The stored tensors that hold a parameter.

        Raises:
            ModelLoadingError: none does, or what transformers does with them on loading cannot be undone by rows.
        """
        if parameter in self._tensors:
            return [StoredPart(self._tensors[parameter])]
        if parameter not in self._group_of:
            raise ModelLoadingError(
                f"the base's files hold no {parameter}, neither under this name nor under one that transformers maps "
                "to it"
            )
        first = self._group_of[parameter]  # converted anew each time: the rows of all experts would take gigabytes
        for axis in (-2, -1):
            found = self._rows(first, self._groups[first], axis)
            if found and parameter in found:
                return found[parameter]
        raise ModelLoadingError(
            f"transformers makes {parameter} from tensors of the base's files in a way that cannot be undone by rows: "
            f"{self._groups[first].converter}"
        )

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Shape of a stored tensor."""
        return tuple(self._shapes[tensor])

    def missing(self) -> list[str]:
        """Parameters of the model that no tensor holds; tied ones, which are stored once, are not among them."""
        tied = set(getattr(self._network, "all_tied_weights_keys", {}) or {})
        known = set(self._tensors) | set(self._group_of) | tied
        parameters = {name for name, _ in self._network.named_parameters(remove_duplicate=False)}
        return sorted(parameters - known, key=dot_natural_key)

    def _map_names(self) -> None:
        transforms = get_model_conversion_mapping(self._network)
        renamings = [one for one in transforms if isinstance(one, WeightRenaming)]
        converters = [one for one in transforms if isinstance(one, WeightConverter)]
        by_pattern = {pattern: one for one in converters for pattern in one.source_patterns}
        prefix = self._network.base_model_prefix
        for name in sorted(self._shapes, key=dot_natural_key):
            renamed, pattern = rename_source_key(name, renamings, converters, prefix, self._parameters)
            if renamed not in self._parameters and name in self._parameters:
                renamed, pattern = rename_source_key(name, [], [], prefix, self._parameters)
            if renamed not in self._parameters:
                self.unused.append(name)
            elif pattern is None:
                self._tensors[renamed] = name
            else:
                group = self._groups.setdefault(renamed, _Group(deepcopy(by_pattern[pattern])))
                group.tensors.setdefault(pattern, []).append(name)
        for first, group in self._groups.items():
            targets = group.converter.target_patterns
            self._group_of |= {first.replace(targets[0], target): first for target in targets}

    def _rows(self, first: str, group: _Group, axis: int) -> dict[str, list[StoredPart]] | None:
        """Rows of each tensor in each parameter, found by converting row numbers instead of weights.

        None where the conversion is none of rows along this axis.
        """
        converter, begin, offsets = deepcopy(group.converter), 0, {}
        converter.operations = self._operations(first, group)
        if not converter.operations:
            return {first: [StoredPart(name) for names in group.tensors.values() for name in names]}
        for pattern, names in group.tensors.items():
            for name in names:
                shape = list(self._shapes[name])
                if len(shape) < 2:
                    return None  # a bias: no adapter changes it
                shape[-1 if axis == -2 else -2] = 1
                numbers = torch.arange(begin, begin + torch.Size(shape).numel()).view(shape)
                offsets[name] = (begin, numbers.numel())
                begin += numbers.numel()
                converter.add_tensor(first, name, pattern, numbers)  # type: ignore[arg-type]
        try:
            realized = converter.convert(first, model=self._network, config=self._network.config)
        except (ValueError, RuntimeError, IndexError, KeyError, AttributeError):
            return None
        found: dict[str, list[StoredPart]] = {}
        for parameter, value in realized.items():
            numbers = value[0] if isinstance(value, list) else value
            expected = self._parameters.get(parameter)
            if expected is None or numbers.shape != (*expected.shape[:-1], 1):
                return None
            found[parameter] = _inverted(numbers.flatten(), offsets, transposed=axis == -1)
        return found

    def _operations(self, first: str, group: _Group) -> list[Any]:
        """What is done to a group's tensors; an operation that depends on their shape decides by the full one."""
        done: list[Any] = []
        operation: Any
        for operation in map(deepcopy, group.converter.operations):
            if getattr(operation, "check_dims", False):
                shapes = {tuple(self._shapes[name]) for names in group.tensors.values() for name in names}
                if shapes == {tuple(self._parameters[first].shape)}:
                    continue
                operation.check_dims = False
            done.append(operation)
        return done


def _inverted(numbers: torch.Tensor, offsets: dict[str, tuple[int, int]], transposed: bool) -> list[StoredPart]:
    """For each tensor, the parameter's row at each of its rows."""
    total = max(begin + count for begin, count in offsets.values())
    rows = torch.full((total,), -1)
    rows[numbers] = torch.arange(len(numbers))
    parts = [
        StoredPart(name, rows[begin : begin + count].clone(), transposed) for name, (begin, count) in offsets.items()
    ]
    return [part for part in parts if part.rows is not None and bool((part.rows >= 0).any())]
