"""Results: metrics, the benchmark, statistics, tables, plots and the report."""
