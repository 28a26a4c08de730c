"""What an ONNX graph is assembled from: operators, constants, and the weights of a model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sa2sr.errors import ModelError

if TYPE_CHECKING:
    from onnx import ModelProto

Weight = NDArray[np.float32]
Axis = str | int  # of an input or output: a name, or a size
_OPERATORS, _FORMAT = 17, 9  # versions which onnxruntime has known since 1.16


def axes(*numbers: int) -> NDArray[np.int64]:
    """Axes, sizes or amounts, as the operators take them."""
    return np.array(numbers, np.int64)


def type_of(dtype: Any) -> int:
    """ONNX's number of a numpy type."""
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


class Weights:
    """The arrays of a model folder, each taken once and in the shape that the settings ask for."""

    def __init__(self, arrays: Mapping[str, Weight]) -> None:
        self.arrays = dict(arrays)

    def take(self, name: str, *shape: int) -> Weight:
        """The array ``name``.

        Raises:
            ModelError: if it is not there, or has another shape
        """
        array = self.arrays.pop(name, None)
        if array is None or array.shape != shape:
            found = "is missing" if array is None else f"has shape {array.shape}"
            raise ModelError(f"the weights of the model: {name} {found}; config.yaml asks for {shape}")
        return array

    def lstm(self, part: str, size: int, units: int, directions: tuple[str, ...]) -> tuple[Weight, Weight, Weight]:
        """Of inputs (directions, 4 * units, size), of states (directions, 4 * units, units), bias (directions, ...).

        Torch orders the gates input, forget, cell, output; ONNX input, output, forget, cell.
        """

        def gates(name: str, *shape: int) -> Weight:
            i, f, c, o = np.split(self.take(f"{part}.{name}", 4 * units, *shape), 4)
            return np.concatenate([i, o, f, c])

        inputs = np.stack([gates(f"weight_ih_l0{each}", size) for each in directions])
        recurrent = np.stack([gates(f"weight_hh_l0{each}", units) for each in directions])
        bias = np.stack([np.concatenate([gates(f"bias_{of}_l0{each}") for of in ("ih", "hh")]) for each in directions])
        return inputs, recurrent, bias

    def none_left(self) -> None:
        """Raise a ModelError if some have not been taken."""
        if self.arrays:
            name = min(self.arrays)
            raise ModelError(
                f"the weights of the model: {name} (and {len(self.arrays) - 1} more) that config.yaml does not know"
            )


class Graph:
    """A graph that grows: each call adds an operator and returns the name of what it gives.

    Inputs are names, or arrays that become constants of the graph.
    """

    def __init__(self, weights: Weights) -> None:
        try:
            import onnx
        except ImportError:
            raise ModelError("an ONNX graph needs onnx: pip install 'sa2sr[onnx]'") from None
        self.onnx = onnx
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def __call__(
        self,
        operator: str,
        *inputs: "str | NDArray[Any] | np.generic",
        name: str | None = None,
        position: int = 0,
        **attributes: Any,
    ) -> str:
        """Add an operator, of whose outputs that at ``position`` is wanted."""
        names = [each if isinstance(each, str) else self._constant(each) for each in inputs]
        output = name or f"{operator}_{len(self.nodes)}"
        outputs = [""] * position + [output]
        self.nodes.append(self.onnx.helper.make_node(operator, names, outputs, **attributes))
        return output

    def _constant(self, array: "NDArray[Any] | np.generic") -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def model(
        self, inputs: Mapping[str, tuple[Axis, ...]], outputs: Mapping[str, tuple[Axis, ...]], *, int8: bool
    ) -> "ModelProto":
        """The whole graph.

        Args:
            inputs: their names and axes
            outputs: likewise
            int8: it uses onnxruntime's own operators
        """
        helper = self.onnx.helper

        def described(tensors: Mapping[str, tuple[Axis, ...]]) -> list[Any]:
            whole = ("lengths", "steps")
            types = {name: type_of(np.int64 if name in whole else np.float32) for name in tensors}
            return [helper.make_tensor_value_info(name, types[name], shape) for name, shape in tensors.items()]

        graph = helper.make_graph(self.nodes, "sa2sr", described(inputs), described(outputs), self.constants)
        versions = [helper.make_opsetid("", _OPERATORS)]
        if int8:
            versions.append(helper.make_opsetid("com.microsoft", 1))
        model: ModelProto = helper.make_model(graph, opset_imports=versions, ir_version=_FORMAT, producer_name="sa2sr")
        return model
