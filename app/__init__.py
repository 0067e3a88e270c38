"""Mini-S3."""

import os

# Pydantic would look through all installed distributions for plugins at the start of each process: a tenth of a second.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
