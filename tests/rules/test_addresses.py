"""Addresses: which are called, what is said of them, and where an SFTP address leads."""

import pytest

from delta_mirror.calls.addresses import host_of, is_loopback, is_this_machine
from delta_mirror.dds.addresses import configured_address, plain_address
from delta_mirror.dds.sftp_address import SftpAddress, is_address, read_address
from delta_mirror.errors import ConfigError, RefusedError

PASSWORD = "invented-secret"


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("https://one.example.test", "https://one.example.test"),
        (" https://one.example.test/ ", "https://one.example.test"),
        ("https://one.example.test/publicapi", "https://one.example.test"),
        ("https://one.example.test/PublicApi//", "https://one.example.test"),
        ("https://one.example.test/a//publicapi", "https://one.example.test/a"),
        ("https://one.example.test:8443/apublicapi", "https://one.example.test:8443/apublicapi"),
        ("https://one.example.test/X/", "https://one.example.test/X"),
        ("https://one.example.test/X/publicapi", "https://one.example.test/X"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("HTTPS://one.example.test", "HTTPS://one.example.test"),
    ],
)
def test_address_of_a_service_is_told_without_slash_and_without_publicapi(given: str, plain: str) -> None:
    assert plain_address(given) == configured_address(given, "key") == plain


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "is no address"),
        ("one.example.test", "is no address"),
        ("https://", "is no address"),
        ("https:///publicapi", "is no address"),
        ("https://one.example.test:x", "is no address"),
        ("https://one.example.test:65536", "is no address"),
        ("https://[one", "is no address"),
        ("https://one.example.test/a b", "is no address"),
        (f"https://salon:{PASSWORD}@one.example.test", "holds more than a host and a path"),
        ("https://@one.example.test", "holds more than a host and a path"),
        (f"https://one.example.test?key={PASSWORD}", "holds more than a host and a path"),
        (f"https://one.example.test#{PASSWORD}", "holds more than a host and a path"),
        ("http://one.example.test", "is not https"),
        ("ftp://127.0.0.1", "is not https"),
        ("http://localhost.example.test", "is not https"),
    ],
)
def test_address_that_may_not_be_called_is_refused_without_being_shown(given: str, said: str) -> None:
    with pytest.raises(ValueError, match=rf"^{said}$"):
        plain_address(given)
    with pytest.raises(ConfigError, match=rf"^dds\.url {said}$"):
        configured_address(given, "dds.url")


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("localhost", True),
        ("LocalHost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("localhost.example.test", False),
        ("127.0.0.1.example.test", False),
        ("", False),
    ],
)
def test_this_machine_is_known_by_the_spelling_of_its_names_alone(host: str, is_own: bool) -> None:
    assert is_this_machine(host) is is_own
    assert is_loopback(f"https://{f'[{host}]' if ':' in host else host}:8080/x") is is_own


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"https://salon:{PASSWORD}@Host.Example:8443/a?key={PASSWORD}", "https://host.example:8443"),
        ("http://host/secret-id", "http://host"),
        ("https://host:0/", "https://host:0"),
        (f"https://host:{PASSWORD}/", ""),
        ("https://ho st/", ""),
        (f"https://{'a' * 253}/", f"https://{'a' * 253}"),
        (f"https://{'a' * 254}/", ""),
        ("nothing", ""),
    ],
)
def test_message_has_scheme_host_and_port_of_an_address_and_no_more(url: str, said: str) -> None:
    assert host_of(url) == said


@pytest.mark.parametrize("source", ["sftp://host", "SCP://x", "a+b-c.1://"])
def test_address_of_any_kind_is_no_folder(source: str) -> None:
    assert is_address(source)


@pytest.mark.parametrize("source", ["", "exports", "/a/sftp://host", "C:/exports", "1a://x", "sftp:/x"])
def test_path_of_a_folder_is_no_address(source: str) -> None:
    assert not is_address(source)


@pytest.mark.parametrize(
    ("given", "user", "host", "port", "path"),
    [
        ("sftp://salon@host.example/up/load", "salon", "host.example", 22, "/up/load"),
        ("SFTP://salon@Host.Example:2022/Up", "salon", "host.example", 2022, "/Up"),
        ("sftp://salon@[2001:DB8::1]:2022/up", "salon", "2001:db8::1", 2022, "/up"),
        ("sftp://salon@[::1]/up", "salon", "::1", 22, "/up"),
        ("sftp://sa%40lon@host/of%20may/%23x%3F", "sa@lon", "host", 22, "/of may/#x?"),
        ("sftp://salon@host:1/x", "salon", "host", 1, "/x"),
        ("sftp://salon@host:65535/x", "salon", "host", 65535, "/x"),
        ("sftp://sa@lon@host/x", "sa@lon", "host", 22, "/x"),
        ("sftp://salon@host", "salon", "host", 22, ""),
        ("sftp://salon@host/", "salon", "host", 22, ""),
        ("sftp://salon@host/~", "salon", "host", 22, ""),
        ("sftp://salon@host/~/", "salon", "host", 22, ""),
        ("sftp://salon@host/~/up/load", "salon", "host", 22, "up/load"),
        ("sftp://salon@host/~other", "salon", "host", 22, "/~other"),
        ("sftp://salon@host/a%2Fb", "salon", "host", 22, "/a/b"),
        ("sftp://salon@host/%E9", "salon", "host", 22, "/\udce9"),
    ],
)
def test_address_is_taken_apart(given: str, user: str, host: str, port: int, path: str) -> None:
    assert read_address(given) == SftpAddress(user, host, port, path)


FORM = "write sftp://user@host/path or sftp://user@host:port/path"
UNREADABLE = f"the SFTP address has a host or a port that cannot be read; {FORM}"
BLANKS = "the SFTP address holds blanks or control characters; write them as %20 and the like"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            f"sftp://salon:{PASSWORD}@host/x",
            f"the SFTP address holds a password, which is not used; log in with a key, and {FORM}",
        ),
        (f"sftp://:{PASSWORD}@host/x", f"the SFTP address holds a password, which is not used; log in with a key, and {FORM}"),
        ("sftp://host/x", f"the SFTP address names no user; {FORM}"),
        ("sftp://@host/x", f"the SFTP address names no user; {FORM}"),
        ("sftp://salon@/x", UNREADABLE),
        ("sftp://salon@host:x/x", UNREADABLE),
        ("sftp://salon@host:65535x/x", UNREADABLE),
        ("sftp://salon@host:0/x", UNREADABLE),
        ("sftp://salon@host:65536/x", UNREADABLE),
        ("sftp://salon@-oProxyCommand=x/x", UNREADABLE),
        ("sftp://salon@[::1/x", f"the SFTP address has a host that cannot be read; {FORM}"),
        ("sftp://salon@host/a b", BLANKS),
        ("sftp://salon@host/a\nb", BLANKS),
        ("sftp://salon@host/a\x07b", BLANKS),
        ("sftp://salon@host/a?b", "the SFTP address holds ? or #; write them as %3F and %23"),
        ("sftp://salon@host/a#b", "the SFTP address holds ? or #; write them as %3F and %23"),
        ("sftp://salon@host/a%00b", "the SFTP address holds a NUL character, which no name can"),
        ("scp://salon@host/x", f"SOURCE is neither a folder nor an SFTP address; {FORM}"),
    ],
)
def test_address_that_is_not_wholly_understood_is_refused_without_being_shown(given: str, said: str) -> None:
    with pytest.raises(RefusedError) as caught:
        read_address(given)
    assert str(caught.value) == said


@pytest.mark.parametrize("given", ["sftp://salon@[host]/x", "sftp://salon@[1.2.3.4]/x", "sftp://salon@[::1::2]/x"])
def test_brackets_hold_an_ipv6_address_and_nothing_else(given: str) -> None:
    with pytest.raises(RefusedError, match="the SFTP address has a host"):  # which words depends on what Python itself refuses
        read_address(given)


def test_host_is_known_by_its_name_and_by_its_port_where_that_is_not_the_usual_one() -> None:
    assert read_address("sftp://a@[::1]:2022/x").known_as == "[::1]:2022"
    assert read_address("sftp://a@host:22/x").known_as == "host"
    assert str(read_address("sftp://a@[::1]/x")) == "[::1]"
    assert str(read_address("sftp://a@host:2022/x")) == "host:2022"
