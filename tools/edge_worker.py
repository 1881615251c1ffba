"""A worker process of `edge serve`: the log set up as its parent's is, then the worker. Argument: least level shown."""

from __future__ import annotations

import sys

from tools.lean import leave_out


def main() -> None:
    """Entry of the process."""
    leave_out()
    from edge.serve import worker
    from tools.logs import configure_logs

    configure_logs(level=int(sys.argv[1]))
    worker.main()


if __name__ == "__main__":
    main()
