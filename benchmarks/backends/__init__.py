"""Inference backends and importers of ONNX: which way of writing replication, and which binarisation, each one takes.

    benchmarks/backends/environment openvino ncnn      # an environment for each, by its pinned requirements
    python -m benchmarks.backends -o benchmarks/results/backends.md

`catalogue` lists the backends, `adapters/NAME.py` drives one of them in its own environment (`worker`), `networks` and
`probes` write what they are given, `jobs` starts the workers, `report` writes the table."""
