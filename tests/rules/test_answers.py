"""The answers of the DDS that are no pages: a token, the tenants of an account, the enums."""

from collections.abc import Mapping

import pytest

from delta_mirror.dds.answers import Tenant, is_own_answer, read_enums, read_oauth_error, read_tenants, read_token
from delta_mirror.errors import ProtocolError

URL = "https://one.example.test"


@pytest.mark.parametrize(
    ("body", "is_own"),
    [(b"{}", True), (b"[]", True), (b'[{"a":1}]', True), (b'"text"', False), (b"7", False), (b"<html>", False), (b"", False)],
)
def test_own_answer_is_an_object_or_an_array(body: bytes, is_own: bool) -> None:
    assert is_own_answer(body) is is_own
    assert is_own_answer(b'{"statusCode":404,"message":"Resource not found"}') is False


# Tokens


@pytest.mark.parametrize(
    ("life", "renew_at"),
    [
        ("", 3_400.0),
        (',"expires_in":3600', 3_400.0),
        (',"expires_in":" 7200 "', 7_000.0),
        (',"expires_in":600.0', 400.0),
        (',"expires_in":400', 300.0),
        (',"expires_in":0', 3_400.0),
        (',"expires_in":-5', 3_400.0),
        (',"expires_in":null', 3_400.0),
        (',"expires_in":"soon"', 3_400.0),
    ],
)
def test_token_is_renewed_five_minutes_or_half_its_life_before_its_end(life: str, renew_at: float) -> None:
    token = read_token(f'{{"access_token":"abc"{life}}}'.encode(), 100.0)
    assert (token.text, token.renew_at) == ("abc", renew_at)
    assert "abc" not in repr(token)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b'"abc"',
        b"null",
        *(b'{"access_token":' + sent + b"}" for sent in (b"null", b"7", b'""', b'"a b"', b'"a\\n"')),
    ],
)
def test_answer_without_a_token_that_can_be_sent_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^an access token: the answer holds none that can be sent$"):
        read_token(body, 100.0)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error":"invalid_client"}', "invalid_client"),
        (b'{"error":"invalid_scope","error_description":"x"}', "invalid_scope"),
        (b'{"error":"Ann Example"}', None),
        (b'{"error":["invalid_client"]}', None),
        (b'{"error":null}', None),
        (b'["invalid_client"]', None),
        (b"{}", None),
        (b"<html>", None),
    ],
)
def test_of_a_refused_token_call_only_the_codes_of_oauth_are_told(body: bytes, code: str | None) -> None:
    assert read_oauth_error(body) == code


# Tenants

ONE = {11: Tenant((9,), URL)}


@pytest.mark.parametrize(
    ("body", "tenants"),
    [
        (b"[]", {}),
        (b'[{"tenantId":11,"publicApiUrl":"https://one.example.test","locations":[{"locationId":9}]}]', ONE),
        (b'[{"TENANTID":"11","PublicApiURL":"https://one.example.test","Locations":[{"LocationID":"9"}]}]', ONE),
        (b'{"data":[{"id":11,"publicApiUrl":"https://one.example.test","locationIds":[9]}]}', ONE),
        (b'{"a":{"b":{"c":[{"tenantId":11,"publicApiUrl":"https://one.example.test","locations":["9"]}]}}}', ONE),
        (b'{"tenantId":11,"publicApiUrl":"https://one.example.test","locations":[{"id":9}]}', ONE),
        (b'{"id":11,"publicApiUrl":"https://one.example.test","locations":[9]}', ONE),
        (b'{"total":1,"none":null,"data":{"tenants":[{"tenantId":11,"locations":[9]}]}}', {11: Tenant((9,), None)}),
        (b'[{"tenantId":11,"id":5,"locationId":9,"locations":[10,{"id":12,"locationId":8},9]}]', {11: Tenant((9, 10, 8), None)}),
        (b'[{"tenantId":11,"locations":[9,"x",null,true,1.5,-1,0,{}]}]', {11: Tenant((9,), None)}),
        (b'[{"tenantId":9223372036854775807},{"tenantId":9223372036854775808}]', {2**63 - 1: Tenant((), None)}),
        (b'[{"tenantId":11,"locations":"9"},{"tenantId":12}]', {11: Tenant((), None), 12: Tenant((), None)}),
        (
            b'[{"tenantId":12,"locationId":1},{"tenantId":11,"locationId":9,"publicApiUrl":"https://one.example.test"},'
            b'{"tenantId":11,"locationId":10,"publicApiUrl":" "},{"tenantId":11,"locationId":9,"publicApiUrl":7}]',
            {12: Tenant((1,), None), 11: Tenant((9, 10), URL)},
        ),
        (b'[7,null,{"tenantId":true},{"tenantId":11,"publicApiUrl":""}]', {11: Tenant((), None)}),
        (b'[{"tenantId":"123456789012345678"},{"tenantId":"1234567890123456789"}]', {123456789012345678: Tenant((), None)}),
        ('[{"tenantId":11},{"tenantId":"\u0665"}]'.encode(), {11: Tenant((), None)}),
    ],
)
def test_tenants_are_read_in_whatever_shape_a_list_of_them_can_have(body: bytes, tenants: Mapping[int, Tenant]) -> None:
    found = read_tenants(body)
    assert found == tenants
    assert list(found) == list(tenants)


@pytest.mark.parametrize("body", [b"{}", b"7", b"null", b'{"a":1,"b":{"c":2}}', b'{"a":{"b":{"c":{"d":[{"tenantId":11}]}}}}'])
def test_answer_without_a_list_of_tenants_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^apps/tenant: the answer holds no list of tenants$"):
        read_tenants(body)


@pytest.mark.parametrize("body", [b"[7]", b'[{"name":"x"}]', b'{"locations":[1]}'])
def test_list_in_which_not_one_tenant_can_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^apps/tenant: not one tenant of the answer can be read$"):
        read_tenants(body)


# Enums


@pytest.mark.parametrize(
    ("body", "enums"),
    [
        (b'{"State":{"2026":"Active","2028":"Deleted"}}', {"State": {"2026": "Active", "2028": "Deleted"}}),
        (
            b'{"enums":{"State":{"2026":"Active"},"Kind":{"1":1,"2":true,"3":1.5}}}',
            {"State": {"2026": "Active"}, "Kind": {"1": "1", "2": "True", "3": "1.5"}},
        ),
        (b'{"count":2,"list":[1],"State":{"2026":"Active","2027":null,"2028":[1]}}', {"State": {"2026": "Active"}}),
        (b'{"enums":{"version":1,"State":{"2026":"Active"}},"Empty":{}}', {"State": {"2026": "Active"}, "Empty": {}}),
    ],
)
def test_enums_are_objects_of_plain_values_at_the_top_or_one_below(body: bytes, enums: Mapping[str, Mapping[str, str]]) -> None:
    assert read_enums(body) == enums


@pytest.mark.parametrize("body", [b"{}", b"[]", b"7", b'{"a":1}'])
def test_answer_without_enums_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^the enums: the answer holds none that can be read$"):
        read_enums(body)


def test_what_is_not_json_is_refused_by_what_was_asked_for() -> None:
    for read, wanted in (
        (lambda body: read_token(body, 1.0), "an access token"),
        (read_tenants, "apps/tenant"),
        (read_enums, "the enums"),
    ):
        with pytest.raises(ProtocolError, match=rf"^{wanted}: the answer is not JSON$"):
            read(b"<html>")
