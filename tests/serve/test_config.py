"""serve.config: every setting from a flag or its twin in the environment; what is wrong is named with its source."""

from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from serve.config import (
    PREFIX,
    ServerConfig,
    find_log_format,
    from_texts,
    read_config,
    read_given,
    to_texts,
    wants_check,
)
from serve.errors import ConfigError

SETTINGS = {setting.name: setting for setting in fields(ServerConfig)}
NUMBERS = [name for name, setting in SETTINGS.items() if setting.metadata["kind"] is int]
FORMS = {"version_policy": ("all", "latest:2")}
"""Values of the settings whose texts have a form, none of them the default."""
CHOICES = [name for name, setting in SETTINGS.items() if setting.metadata["choices"]]
COMPANIONS = {
    "tls_cert": {"tls_key": Path("key.pem")},
    "tls_key": {"tls_cert": Path("cert.pem")},
    "tls_client_ca": {"tls_cert": Path("cert.pem"), "tls_key": Path("key.pem")},
    "max_token_calls": {"tokens": Path("tokens")},
}
"""Settings without which another one is an error."""


def flag_of(name: str) -> str:
    """A setting's flag."""
    return "--" + name.replace("_", "-")


def twin_of(name: str) -> str:
    """A setting's variable in the environment."""
    return PREFIX + name.upper()


def other_values(name: str) -> tuple[tuple[str, Any], tuple[str, Any]]:
    """Two texts, each with the value that it means; the first is never the default, the second only of two choices."""
    setting = SETTINGS[name]
    if name in FORMS:
        first, second = FORMS[name]
        return (first, first), (second, second)
    if setting.metadata["choices"]:
        first, second, *_ = sorted(setting.metadata["choices"], key=lambda choice: choice == setting.default)
        return (first, first), (second, second)
    if setting.metadata["kind"] is int:
        least, most = setting.metadata["least"], setting.metadata["most"]
        first, second, *_ = (value for value in (most, least, most - 1) if value != setting.default)
        return (str(first), first), (str(second), second)
    kind = setting.metadata["kind"]
    return ("elsewhere", kind("elsewhere")), ("nowhere", kind("nowhere"))


def companions_of(name: str) -> dict[str, str]:
    """The variables of a setting's companions."""
    return {twin_of(other): str(value) for other, value in COMPANIONS.get(name, {}).items()}


def with_companions(name: str, value: object) -> ServerConfig:
    """The configuration in which a setting and its companions are set."""
    return ServerConfig(**{name: value}, **COMPANIONS.get(name, {}))  # type: ignore[arg-type]


def wrong_sources(name: str, text: str) -> list[tuple[str, list[str], dict[str, str]]]:
    """A wrong text given as a flag and as a variable, each with the name of the source."""
    return [(flag_of(name), [f"{flag_of(name)}={text}"], {}), (twin_of(name), [], {twin_of(name): text})]


def test_without_flags_and_variables_the_defaults_hold() -> None:
    assert read_config([], {}) == ServerConfig()


def test_outside_a_container_only_this_machine_is_listened_to() -> None:
    assert (ServerConfig().host, ServerConfig().port) == ("127.0.0.1", 50051)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_a_flag(name: str) -> None:
    (text, value), _ = other_values(name)
    for arguments in ([flag_of(name), text], [f"{flag_of(name)}={text}"]):
        config = read_config(arguments, companions_of(name))
        assert config == with_companions(name, value)
        assert type(getattr(config, name)) is type(value)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_a_variable(name: str) -> None:
    (text, value), _ = other_values(name)
    assert read_config([], {twin_of(name): text, **companions_of(name)}) == with_companions(name, value)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_flag_wins_over_the_variable(name: str) -> None:
    (text, value), (ignored, _) = other_values(name)
    environment = {twin_of(name): ignored, **companions_of(name)}
    assert read_config([flag_of(name), text], environment) == with_companions(name, value)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_at_either_end_of_its_range_is_taken(name: str) -> None:
    for end in ("least", "most"):
        value = SETTINGS[name].metadata[end]
        assert getattr(read_config([], {twin_of(name): str(value), **companions_of(name)}), name) == value


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_range_is_refused_with_the_range_and_source(name: str) -> None:
    least, most = SETTINGS[name].metadata["least"], SETTINGS[name].metadata["most"]
    for value in (least - 1, most + 1):
        for source, arguments, environment in wrong_sources(name, str(value)):
            with pytest.raises(ConfigError) as caught:
                read_config(arguments, environment)
            assert str(caught.value) == f"{source}: wanted a whole number from {least} to {most}, got '{value}'"


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", ["", "ten", "1.5", "1e3", " 5", "5 ", "0x10", "1_000", "+5", "\u0665", "\u00b2"])
def test_what_is_not_a_number_is_refused_with_the_source(name: str, text: str) -> None:
    for source, arguments, environment in wrong_sources(name, text):
        with pytest.raises(ConfigError) as caught:
            read_config(arguments, environment)
        assert str(caught.value).startswith(f"{source}: wanted a whole number from ")
        assert str(caught.value).endswith(f", got {text!r}")


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("text", ["", "CPU", "verbose"])
def test_what_is_no_choice_is_refused_with_the_choices_and_the_source(name: str, text: str) -> None:
    choices = ", ".join(SETTINGS[name].metadata["choices"])
    for source, arguments, environment in wrong_sources(name, text):
        with pytest.raises(ConfigError) as caught:
            read_config(arguments, environment)
        assert str(caught.value) == f"{source}: wanted one of {choices}; got {text!r}"


def test_every_setting_with_a_form_is_tested() -> None:
    assert {name for name, setting in SETTINGS.items() if setting.metadata["form"][0]} == set(FORMS)


@pytest.mark.parametrize(
    "text", ["", "latest", "latest:0", "latest:-1", "latest:01", "Latest:1", "latest:1 ", "2", "1,2"]
)
def test_a_version_policy_of_another_form_is_refused_with_the_source(text: str) -> None:
    for source, arguments, environment in wrong_sources("version_policy", text):
        with pytest.raises(ConfigError) as caught:
            read_config(arguments, environment)
        assert str(caught.value) == f"{source}: wanted latest:N, N from 1, or all; got {text!r}"


def test_variables_with_our_prefix_that_no_setting_has_are_all_named() -> None:
    environment = {"INKLING_SERVE_PROT": "1", "INKLING_SERVE_BATCH": "2", "INKLING_SERVE_PORT": "3"}
    with pytest.raises(ConfigError, match=r"^unknown environment variables: INKLING_SERVE_BATCH, INKLING_SERVE_PROT$"):
        read_config([], environment)


def test_variables_without_our_prefix_are_nobodys_business() -> None:
    """Kubernetes injects the first two for a Service named inkling."""
    environment = {"INKLING_PORT": "tcp://10.0.0.1:50051", "INKLING_SERVICE_HOST": "10.0.0.1", "PORT": "80"}
    assert read_config([], environment) == ServerConfig()


def test_variables_of_a_service_called_inkling_serve_are_refused() -> None:
    environment = {"INKLING_SERVE_PORT": "tcp://10.0.0.1:50051", "INKLING_SERVE_SERVICE_HOST": "10.0.0.1"}
    with pytest.raises(ConfigError, match=r"Service called inkling-serve .* enableServiceLinks: false"):
        read_config([], environment)
    environment = {"INKLING_SERVE_CANARY_SERVICE_HOST": "10.0.0.1", "INKLING_SERVE_CANARY_SERVICE_PORT": "50051"}
    with pytest.raises(ConfigError, match=r"Service called inkling-serve-canary .* enableServiceLinks: false"):
        read_config([], environment)


def test_an_unknown_flag_ends_the_program_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read_config(["--prot", "1"], {})
    assert caught.value.code == 2
    assert "--prot" in capsys.readouterr().err


def test_help_lists_every_flag_with_its_sentence_and_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read_config(["--help"], {})
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, setting in SETTINGS.items():
        assert f" {flag_of(name)} " in shown
        default = "none" if setting.default in (None, "") else setting.default
        assert f"{setting.metadata['help']} (default: {default})" in shown
    assert "INKLING_SERVE_MAX_BATCH" in shown
    assert "INKLING_SERVE_CONFIG" in shown


def test_settings_cannot_be_changed_after_they_were_checked() -> None:
    with pytest.raises(FrozenInstanceError):
        ServerConfig().port = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_is_set_reaches_a_worker_with_its_type(name: str) -> None:
    (_, value), _ = other_values(name)
    config = ServerConfig(**{name: value})
    assert from_texts(to_texts(config)) == config


@pytest.mark.parametrize("name", [name for name, setting in SETTINGS.items() if setting.default is None])
def test_an_empty_text_leaves_a_setting_without_a_value(name: str) -> None:
    """A template that sets every variable can leave some of them empty."""
    assert read_config([], {twin_of(name): ""}) == ServerConfig()


@pytest.mark.parametrize(
    ("given", "flag", "lacks"),
    [
        ({"tls_cert": "c"}, "--tls-cert", "--tls-key"),
        ({"tls_key": "k"}, "--tls-key", "--tls-cert"),
        ({"tls_client_ca": "a"}, "--tls-client-ca", "--tls-cert and --tls-key"),
        ({"max_token_calls": "5"}, "--max-token-calls", "--tokens"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(given: dict[str, str], flag: str, lacks: str) -> None:
    with pytest.raises(ConfigError, match=f"^{flag}: wanted {lacks} with it; "):
        read_config([], {twin_of(name): text for name, text in given.items()})


def test_what_somebody_has_set_can_be_told_from_a_default() -> None:
    given = read_given(["--port", "50051"], {"INKLING_SERVE_DEVICE": "cpu"})
    assert given == {"port": 50051, "device": "cpu"}


@pytest.mark.parametrize("arguments", [["--check"], ["--port", "1", "--check"]])
def test_check_is_a_flag_and_no_setting(arguments: list[str]) -> None:
    assert wants_check(arguments)
    assert not wants_check([argument for argument in arguments if argument != "--check"])
    assert read_config(["--check"], {}) == ServerConfig()


@pytest.mark.parametrize(
    ("arguments", "found"),
    [([], "text"), (["--log-format", "json"], "json"), (["--log-format=json"], "json"), (["--log-format"], "")],
)
def test_the_format_of_the_log_is_found_before_the_settings_are_read(arguments: list[str], found: str) -> None:
    """Also of the bare command, without any arguments."""
    assert find_log_format(arguments, {}) == found
    assert find_log_format([], {"INKLING_SERVE_LOG_FORMAT": "json"}) == "json"
