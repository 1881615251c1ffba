"""The filler's process of `edge serve`: the log set up as its parent's is, then the filler. Argument: least level."""

from __future__ import annotations

import sys

from tools.lean import leave_out


def main() -> None:
    """Entry of the process."""
    leave_out()
    from edge.serve import filler
    from edge.sync.foreground import fill_parts
    from tools.logs import configure_logs

    configure_logs(level=int(sys.argv[1]))
    filler.main(fill_parts)


if __name__ == "__main__":
    main()
