"""Where a worker begins: `python -m app.worker REPORT LISTEN [LISTEN]`, see `app.server.main`."""

import sys

from app.starting import imported

if __name__ == "__main__":
    sys.exit(imported("app.server").main())
