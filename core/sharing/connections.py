"""The connections of a shared page: those that ask nothing, or never finish asking, make way for others.

Without this a few hundred connections that stay silent would keep every visitor out, and the owner too: a process has about
a thousand open files.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from core.sharing.sharing import OWN

HEADER_SECONDS = 10.0  # from the first byte, or from the connection, to the end of a request's headers
MOST = 400  # at once; beyond that the one that has been silent longest goes
MOST_OF_ONE = 100  # of one address, but for this machine's own


class Connection(H11Protocol):
    """A connection that has to ask something in time."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.since = self.loop.time()
        super().connection_made(transport)
        self._await_request()
        host = self.client[0] if self.client else ""
        of_one = [one for one in self.connections if one.client and one.client[0] == host] if host not in OWN else []
        for group, most in ((of_one, MOST_OF_ONE), (self.connections, MOST)):
            if len(group) > most:
                idle = [one for one in group if one.makes_way() and one is not self]
                (min(idle, key=lambda one: one.since) if idle else self).close()
                return

    def data_received(self, data: bytes) -> None:
        self._await_request()
        super().data_received(data)
        if not self.is_silent():
            self.since = self.loop.time()  # an upload that arrives is heard all the time
            self._stop_waiting()

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(error)

    def on_response_complete(self) -> None:
        self.since = self.loop.time()
        super().on_response_complete()

    def is_silent(self) -> bool:
        """Whether nothing was asked that is not answered."""
        return self.cycle is None or self.cycle.response_complete

    def makes_way(self) -> bool:
        """Whether it may be closed for another one: nothing was asked, or not all of it has arrived."""
        return self.is_silent() or self.cycle.more_body

    def close(self) -> None:
        self.connections.discard(self)  # at once: a crowd may arrive before the loop has closed it
        self.transport.abort()

    def _await_request(self) -> None:
        if self._deadline is None and self.is_silent():
            self._deadline = self.loop.call_later(HEADER_SECONDS, self._close_if_silent)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close_if_silent(self) -> None:
        self._deadline = None
        if self.is_silent():
            self.close()
