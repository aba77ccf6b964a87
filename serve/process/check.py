"""`python -m serve --check`: load everything as a server does, open no port, and say what is right and what is wrong.

Enters: a ServerConfig. Leaves: a line for each model and for each problem on stdout, and an exit code.
Does not know: flags, how a model is loaded.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from serve.api.security.access import Access
from serve.config import ServerConfig
from serve.errors import ConfigError
from serve.machine.event_loop import new_event_loop
from serve.process.server import Server
from serve.telemetry.logs import one_line

BAD_SETTING, BAD_MODEL = 2, 3
"""Exit codes."""


def check(config: ServerConfig) -> int:
    """Exit code 0 if all is well, 2 for a wrong file of certificates or tokens, 3 for a model that is not served."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        are_models_right = runner.run(_check_models(config))
    are_files_right = [_report(part, config) for part in (_check_certificate, _check_tokens)]
    if not all(are_files_right):
        return BAD_SETTING
    return 0 if are_models_right else BAD_MODEL


async def _check_models(config: ServerConfig) -> bool:
    """Whether every model file could be loaded and gives the answers of its self-test."""
    server = Server(replace(config, tls_cert=None, tls_key=None, tls_client_ca=None, tokens=None))
    try:
        await server.load()
    except ConfigError as error:
        if not server.registry.refusals:
            _print("wrong", str(error))
            return False
    for model in server.registry.list():
        accuracy = f"accuracy {model.spec.accuracy}"
        _print("ok", f"{model.name} version {model.version}: {model.spec.precision} on {model.device}, {accuracy}")
    for refusal in server.registry.refusals:
        file = refusal.file
        _print("wrong", f"{file.name} version {file.version}: {refusal.reason} ({file.path})")
    return not server.registry.refusals


def _report(part: Callable[[ServerConfig], str], config: ServerConfig) -> bool:
    """Whether a part of the settings is right; print what it says of itself, or the problem."""
    try:
        facts = part(config)
    except ConfigError as error:
        _print("wrong", str(error))
        return False
    if facts:
        _print("ok", facts)
    return True


def _check_certificate(config: ServerConfig) -> str:
    """When the certificate expires; nothing without TLS. Raises ConfigError."""
    pair = Access(config.tls_cert, config.tls_key, config.tls_client_ca, tokens=None, is_quiet=True).pair
    if pair is None:
        return ""
    expires = datetime.fromtimestamp(pair.content.expires_s, UTC)
    if expires < datetime.now(UTC):
        raise ConfigError(f"--tls-cert: the certificate in {config.tls_cert} expired on {expires.isoformat()}")
    return f"certificate {config.tls_cert}: expires on {expires.isoformat()}"


def _check_tokens(config: ServerConfig) -> str:
    """The names in the file of tokens; nothing without tokens. Raises ConfigError."""
    tokens = Access(None, None, None, config.tokens, is_quiet=True).tokens
    return f"tokens {config.tokens}: {', '.join(tokens.names)}" if tokens else ""


def _print(verdict: str, text: str) -> None:
    print(f"{verdict}: {one_line(text)}", flush=True)
