"""python-tuf asks for files from its own thread; the event loop fetches them.

`tuf.ngclient` is synchronous. One refresh runs in one thread, and each of its downloads becomes a coroutine in the
loop that owns the session, with a deadline on the waiting side too. Stopping the bridge ends a refresh that was
cancelled: the next wait in the thread fails at once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from tuf.api.exceptions import DownloadError, DownloadHTTPError
from tuf.ngclient.fetcher import FetcherInterface

from edge.upstream.client import MissingError
from manifests.errors import TransferError

Get = Callable[[str, int], Coroutine[Any, Any, bytes]]

# Larger than any role file may be (tuf's own limit for targets is 5 MB).
_CEILING_BYTES = 5_000_000


class Bridge(FetcherInterface):
    """One upstream as a tuf fetcher, for one refresh.

    Args:
        loop: the loop that runs `get`.
        get: path from the first slash on, and a ceiling in bytes → the file.
        deadline_s: longest wait for one file, above the client's own deadlines.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, get: Get, deadline_s: float) -> None:
        self._loop = loop
        self._get = get
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._waiting: concurrent.futures.Future[bytes] | None = None
        self._stopped = False
        self.error: TransferError | None = None

    def stop(self) -> None:
        """End the running download, if any, and refuse further ones."""
        with self._lock:
            self._stopped = True
            if self._waiting is not None:
                self._waiting.cancel()

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Fetch one role file; tuf calls this in its thread.

        Raises:
            DownloadHTTPError: environment; the upstream does not have it (tuf takes that for "no newer root").
            DownloadError: environment; anything else; `error` keeps our own form of it.
        """
        with self._lock:
            if self._stopped:
                raise DownloadError("stopped")
            self._waiting = asyncio.run_coroutine_threadsafe(self._get(f"/{url}", max_length), self._loop)
        try:
            return self._waiting.result(self._deadline_s)
        except MissingError as error:
            self.error = error
            raise DownloadHTTPError(error.message, 404) from error
        except TransferError as error:
            self.error = error
            raise DownloadError(error.message) from error
        except (TimeoutError, concurrent.futures.CancelledError) as error:
            self._waiting.cancel()
            self.error = TransferError(f"{url}: no answer within {self._deadline_s:.0f} s", zh="上游没有应答")
            raise DownloadError("no answer") from error

    def _fetch(self, url: str) -> Iterator[bytes]:
        yield self.download_bytes(url, _CEILING_BYTES)
