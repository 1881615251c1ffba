"""The filler's process of `edge serve`: the log set up as its parent's is, then the filler. Argument: least level."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry of the process."""
    # securesystemslib brings in the cloud's key services where boto3 is installed; no edge has keys there.
    sys.modules.setdefault("boto3", None)  # type: ignore[arg-type]
    from edge.serve import filler
    from edge.sync.foreground import fill_parts
    from tools.logs import configure_logs

    configure_logs(level=int(sys.argv[1]))
    filler.main(fill_parts)


if __name__ == "__main__":
    main()
