"""The filler's process of `edge serve`: the log set up as its parent's is, then the filler. Argument: least level."""

from __future__ import annotations

import sys

from edge import app
from edge.serve import filler
from tools.logs import configure_logs


def main() -> None:
    """Entry of the process."""
    configure_logs(level=int(sys.argv[1]))
    filler.main(app.fill_parts)


if __name__ == "__main__":
    main()
