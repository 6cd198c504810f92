"""A fuzzer of manifests, and of what people do to them, at a real API server with the operator: `python -m e2e.fuzz`.

schema.py     what the CRDs say: which manifests they take, judged a second time, and values at and past every bound
api.py        the API server, as plain requests
state.py      which states of a workload the docs name
life.py       one shop under a Canary, and what is done to it
operator.py   whether the operator is well
"""
