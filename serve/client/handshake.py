"""Why a client and a server do not come together: only one of them speaks TLS, or one refuses the other's certificate.

Enters: an endpoint whose calls found no server. Leaves: one sentence, or none. Does not know: gRPC, whose own words for
this are many lines, and say "Socket closed" to a client without TLS.
"""

import contextlib
import socket
import ssl

from serve.client.endpoint import Endpoint

CONNECT_S = 1.0
"""Seconds that the server has to accept a connection, and to answer on it."""


def explain_failure(endpoint: Endpoint) -> str:
    """What is wrong, by a handshake of our own; an empty text if the handshake is not the reason."""
    for server in endpoint.hosts:
        host, _, port = server.rpartition(":")
        with contextlib.suppress(OSError, UnicodeError):  # of a name that IDNA does not take
            if sentence := _shake_hands(endpoint, host.strip("[]"), int(port)):
                return sentence
    return ""


def _shake_hands(endpoint: Endpoint, host: str, port: int) -> str:
    """The sentence of `explain_failure`. Raises OSError if there is no connection."""
    server = f"the server at {endpoint.address}"
    with socket.create_connection((host, port), CONNECT_S) as plain:
        try:
            with _make_context(endpoint).wrap_socket(plain, server_hostname=host) as secure:
                if not endpoint.uses_tls:
                    return f"{server} speaks TLS: wanted its authorities (tls_ca), got none"
                is_refused = not secure.recv(1)  # TLS 1.3 looks at the client's certificate after the handshake
        except ssl.SSLCertVerificationError as error:
            return f"the certificate of {server} is not accepted: {error.verify_message}"
        except ssl.SSLError as error:
            is_refused = "ALERT" in (error.reason or "")
            if not endpoint.uses_tls:
                return ""
            if not is_refused:
                return f"{server} does not speak TLS: wanted a call without tls_ca and tls_cert"
    wanted = "another than that in tls_cert" if endpoint.tls_cert else "one (tls_cert), got none"
    return f"{server} asks for a certificate of the client: wanted {wanted}" if is_refused else ""


def _make_context(endpoint: Endpoint) -> ssl.SSLContext:
    if endpoint.uses_tls:
        return endpoint.make_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent
    context.set_alpn_protocols(["h2"])
    return context
