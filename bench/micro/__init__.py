"""Single stages of the pipelines, each beside the least that its work could take: `python -m bench.micro`."""
