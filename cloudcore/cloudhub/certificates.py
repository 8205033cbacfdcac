"""The hub's certificate, key and authority, read again when they were renewed: no restart, and no node is cut."""

from __future__ import annotations

import logging
from pathlib import Path

import grpc

from cloudcore.settings import HubSettings
from corekit.logs import RepeatedFault

logger = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int, int], ...]


class CertificateFiles:
    """The files of `hub`. `renewed` is called by gRPC, on a thread of its own, for each handshake."""

    def __init__(self, settings: HubSettings) -> None:
        names = (settings.key_file, settings.cert_file, settings.client_ca_file)
        self._paths = [Path(name) for name in names]
        self._stamp: _Stamp = ()
        self._fault = RepeatedFault(logger, "cloudhub: certificates cannot be read again")

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Return what is in the files. Raises: OSError."""
        stamp = self._stamps()
        key, certificate, authority = (path.read_bytes() for path in self._paths)
        self._stamp = stamp
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authority)

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what is in the files if they have changed; None: go on with what there is."""
        try:
            if self._stamps() == self._stamp:
                return None
            found = self.read()
        except OSError as exc:  # a renewal may be writing them
            self._fault.failed(f"{exc.filename}: {exc.strerror}")
            return None
        self._fault.cleared()
        logger.info("cloudhub: certificates were renewed")
        return found

    def _stamps(self) -> _Stamp:
        found = [path.stat() for path in self._paths]
        return tuple((one.st_mtime_ns, one.st_ino, one.st_size) for one in found)
