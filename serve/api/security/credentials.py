"""A certificate that may change -> the credentials of a gRPC server.

Enters: a watched Pair. Leaves: credentials for one listener. Does not know: files.
"""

from typing import Any

import grpc

from serve.api.security.certificate import Pair
from serve.api.security.files import WatchedFiles


def make_credentials(files: WatchedFiles[Pair]) -> grpc.ServerCredentials:
    """Credentials of one listener, which give each new connection the Pair in force.

    Each listener needs its own: gRPC asks before every handshake for what is new, and keeps the answer per listener.
    """
    given = files.content

    def find_new() -> Any:  # the stubs do not know that it may be None
        nonlocal given
        if files.content is given:
            return None
        given = files.content
        return _configure(given)

    return grpc.dynamic_ssl_server_credentials(
        _configure(given), find_new, require_client_authentication=given.client_ca is not None
    )


def _configure(pair: Pair) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pair.key, pair.certificate)], root_certificates=pair.client_ca)
