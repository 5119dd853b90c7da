"""Benchmarks: the node against its peers on one machine, in one run."""
