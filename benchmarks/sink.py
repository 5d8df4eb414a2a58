"""The SMTP server that submissions go to, in a process of its own so that it takes no turn of the clients' loop."""

import logging
import multiprocessing
from multiprocessing.connection import Connection

from tests.servers.smtp_sink import SmtpSink
from tests.servers.tls import TlsFiles


class Sink:
    """An SmtpSink elsewhere; `port` speaks plain SMTP with AUTH."""

    def __init__(self, tls: TlsFiles) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, tls), daemon=True)
        self._process.start()
        self.port, self.user, self.password = self._pipe.recv()

    def count(self) -> int:
        """How many messages came so far."""
        self._pipe.send("count")
        count: int = self._pipe.recv()
        return count

    def close(self) -> None:
        self._pipe.send("close")
        self._process.join(10)


def _serve(pipe: Connection, tls: TlsFiles) -> None:
    logging.disable(logging.WARNING)  # aiosmtpd warns of its own attributes
    sink = SmtpSink(tls)
    sink.start()
    pipe.send((sink.port, sink.user, sink.password))
    while pipe.recv() == "count":
        pipe.send(len(sink.messages))
    sink.close()
