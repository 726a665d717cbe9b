"""A TCP proxy that counts round trips as the network sees them: how often the client speaks after the server did."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class CountingProxy:
    """Forwards every connection to one server. Its count includes connecting."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._muted = False
        self.round_trips = 0
        self.round_trips_to_connect = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def redirect(self, url: str) -> str:
        """The same URL, through this proxy."""
        parts = urlsplit(url)
        port = self._listener.getsockname()[1]
        return url.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{port}")

    @contextmanager
    def expect(self, round_trips: int) -> Iterator[None]:
        """Assert how many round trips the block takes."""
        before = self.round_trips
        yield
        assert self.round_trips - before == round_trips

    def mute(self) -> None:
        """Swallow all that the server says from now on."""
        self._muted = True

    def __enter__(self) -> CountingProxy:
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._listener, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._ends += [client, server]
                pair = _Pair(self)
                threading.Thread(target=pair.forward, args=(client, server), kwargs={"asking": True}, daemon=True).start()
                threading.Thread(target=pair.forward, args=(server, client), kwargs={"asking": False}, daemon=True).start()


class _Pair:
    """One connection; a password exchange and the first statement are told apart from later ones by `Z`, ready for query."""

    def __init__(self, proxy: CountingProxy) -> None:
        self._proxy = proxy
        self._server_spoke = True
        self._ready = False

    def forward(self, source: socket.socket, target: socket.socket, *, asking: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 20):
                if asking:
                    self._count()
                else:
                    self._server_spoke = True
                    self._ready = self._ready or data[-6:-1] == b"Z\0\0\0\5"
                    if self._proxy._muted:
                        continue
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)

    def _count(self) -> None:
        if self._server_spoke:
            self._proxy.round_trips += 1
            if not self._ready:
                self._proxy.round_trips_to_connect += 1
        self._server_spoke = False
