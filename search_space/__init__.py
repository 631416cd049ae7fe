"""The search space of the extraction block: operations, cells, genotype, supernet, cost."""

from search_space.registry import OPERATIONS, list_operations

__all__ = ["OPERATIONS", "list_operations"]
