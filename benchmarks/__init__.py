"""Benchmarks print a table, then one JSON line, and keep their section of RESULTS.md; none asserts a time."""
