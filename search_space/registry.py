"""The operations that a slot can choose from, as data."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Operation:
    """One candidate of a slot.

    `kind`: "separable" (depthwise, BN, pointwise), "relu_separable" (ReLU, depthwise, pointwise, BN) or "identity".
    `code`: its number in the published genotype (Wu & Zhou 2021), where it has one.
    """

    name: str
    kind: str
    kernel: int
    code: str
    title: str


OPERATIONS: Mapping[str, Operation] = {operation.name: operation for operation in (
    Operation("sep3", "separable", 3, "00", "separable 3×3, dilated"),
    Operation("relu_sep3", "relu_separable", 3, "01", "ReLU, separable 3×3"),
    Operation("relu_sep5", "relu_separable", 5, "02", "ReLU, separable 5×5"),
    Operation("identity", "identity", 1, "03", "identity"),
)}


def list_operations() -> list[str]:
    """Names that `space.operations` may hold."""
    return list(OPERATIONS)
