"""Benchmarks that others published, in their own words: readers, strings, candidates and measures."""
