"""The keeper's process of `edge serve`: the log set up as its parent's is, then the keeper. Argument: least level."""

from __future__ import annotations

import sys

from tools.lean import leave_out


def main() -> None:
    """Entry of the process."""
    leave_out()
    from edge import app
    from edge.serve import keeper
    from tools.logs import configure_logs

    configure_logs(level=int(sys.argv[1]))
    keeper.main(app.nights)


if __name__ == "__main__":
    main()
