"""The cluster that the end-to-end tests, the benchmarks and the demo run on: `python -m e2e.cluster --help`."""
