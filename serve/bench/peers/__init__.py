"""Other servers that the benchmark measures in turn with ours."""
