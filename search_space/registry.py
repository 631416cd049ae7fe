"""The operations that a slot can choose from, as data."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Operation:
    """One candidate of a slot.

    `kind` names how it is built, see `search_space.operations.build_operation`; `dilation` multiplies its cell's.
    `code`: its number in the published genotype (Wu & Zhou 2021), where it has one.
    """

    name: str
    kind: str
    kernel: int
    code: str
    title: str
    dilation: int = 1


OPERATIONS: Mapping[str, Operation] = {operation.name: operation for operation in (
    Operation("sep3", "separable", 3, "00", "separable 3×3, dilated"),
    Operation("relu_sep3", "relu_separable", 3, "01", "ReLU, separable 3×3"),
    Operation("relu_sep5", "relu_separable", 5, "02", "ReLU, separable 5×5"),
    Operation("identity", "identity", 1, "03", "identity"),
    Operation("relu_sep7", "relu_separable", 7, "", "ReLU, separable with a large kernel, 7×7"),
    Operation("dil_sep3", "dilated_separable", 3, "", "ReLU, separable 3×3, twice its cell's dilation", 2),
    Operation("group3", "grouped", 3, "", "ReLU, 3×3 in groups of 8 channels"),
    Operation("se_sep3", "squeeze_excited", 3, "", "ReLU, separable 3×3, channels weighted by squeeze and excitation"),
    Operation("highpass5", "high_pass", 5, "", "high-pass residual: 5×5 kernels that sum to 0, then 1×1"),
)}


def list_operations() -> list[str]:
    """Names that `space.operations` may hold."""
    return list(OPERATIONS)
