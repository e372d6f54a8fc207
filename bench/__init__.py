"""The benchmarks: each figure is a ratio to a named baseline of the same run. `make bench`, or see README.md."""
