"""What uvicorn reads of a request before the app hears of it, bounded: by httptools it takes a head of any length."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uvicorn

HEAD_BYTES = 64 << 10  # of the address and the headers, beyond what comes with the first bytes of them


def bound_heads(config: uvicorn.Config) -> None:
    """400 for longer heads, in connections that are made from now on. config: of a server that has started.

    To put a header together takes a time that grows with its square, in which nobody is answered. Where uvicorn reads
    by h11, that has a limit of its own.
    """
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return

    class Bounded(HttpToolsProtocol):
        _heads = 0  # how many have begun
        _in_head = False
        _head_bytes = 0

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._heads, self._in_head, self._head_bytes = self._heads + 1, True, 0

        def on_headers_complete(self) -> None:
            self._in_head = False
            super().on_headers_complete()

        def data_received(self, data: bytes) -> None:
            before = self._heads if self._in_head else 0
            super().data_received(data)
            if self._in_head and self._heads == before:  # all of it belongs to the head
                self._head_bytes += len(data)
                if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
                    self.send_400_response(f"The headers of this request are longer than {HEAD_BYTES >> 10} kB.")

    if config.http_protocol_class is HttpToolsProtocol:
        config.http_protocol_class = Bounded
