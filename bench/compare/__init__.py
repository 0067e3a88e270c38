"""Mini-S3 beside what people use today, on the same machine in the same minutes: `python -m bench.compare`."""
