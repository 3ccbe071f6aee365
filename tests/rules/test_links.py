"""Which record belongs to which contact: by a file, and by a column of the mirror."""

import pytest

from delta_mirror.accela.links import after, plan_column, plan_file, read_file
from delta_mirror.config import MAPPED_ENTITIES
from delta_mirror.core.links import Claim, Link, LinkPlan, Who
from delta_mirror.errors import RefusedError

ANN, BEA, CLEO = (Who("NexusClient", 0, 0, id_) for id_ in ("EX1", "EX2", "EX3"))
GUID = "0F8E4C1A-0000-4000-8000-0000000000AB"


def rows(*lines: str) -> list[object]:
    return [tuple(row) for row in read_file([f"{line}\n" for line in lines], MAPPED_ENTITIES)]


def taken(held: list[Link], *lines: str) -> LinkPlan:
    return plan_file(held, read_file(["entity,id,contact_id\n", *(f"{line}\n" for line in lines)], MAPPED_ENTITIES))


def test_a_file_names_its_columns_in_any_order_and_blank_lines_are_none() -> None:
    assert rows(
        "contact_id,Tenant_ID,location_id,entity,id",
        f"253,11,9,Client,{GUID}",
        "",
        ' ,,,NexusClient," EX1 "',
        "254,123456789012345678,0,Client,x",
        "255,0,0,NexusClient,EX2",
    ) == [
        (2, Who("Client", 11, 9, GUID.lower()), "253"),
        (4, Who("NexusClient", 0, 0, "EX1"), ""),
        (5, Who("Client", 123456789012345678, 0, "x"), "254"),
        (6, Who("NexusClient", 0, 0, "EX2"), "255"),
    ]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "the first line must name the columns entity, id, contact_id; it lacks entity"),
        (["entity,id"], "it lacks contact_id"),
        (["entity;id;contact_id"], "it lacks entity; its fields are parted by semicolons: save it with commas"),
        (["entity\tid\tcontact_id"], "it lacks entity; its fields are parted by tabs: save it with commas"),
        (["entity;id,contact_id"], "it lacks entity"),
        (
            ["entity,id,contact_id,note"],
            "names 'note', which is no column; known are entity, id, contact_id, tenant_id, location_id",
        ),
        (["entity,id,contact_id,id"], "the first line names a column twice; take one away"),
        (["entity,id,contact_id", "NexusClient,EX1"], "line 2 has 2 fields, and the first line names 3; mend the line"),
        (["entity,id,contact_id", "Klient,EX1,253"], f"that there is not; known are {', '.join(MAPPED_ENTITIES)}"),
        (["entity,id,contact_id", "NexusClient,,253"], "line 2 names no id; give the record's, as it stands in the mirror"),
        (
            ["entity,id,contact_id", "NexusClient,EX\x071,253"],
            "line 2 has an id that no record can have; give the record's, as it stands in the mirror",
        ),
        (
            ["entity,id,contact_id", "Client,x,253"],
            "line 2 needs a whole number as tenant_id, as a record of the DDS stands under tenant and location",
        ),
        (
            ["entity,id,contact_id,tenant_id", "Client,x,253,11"],
            "needs a whole number as location_id, as a record of the DDS stands under tenant and location",
        ),
        (
            ["entity,id,contact_id,tenant_id", "Client,x,253,1234567890123456789"],
            "needs a whole number as tenant_id, as a record of the DDS stands under tenant and location",
        ),
        (
            ["entity,id,contact_id,tenant_id", "NexusClient,x,253,11"],
            "line 2 has a tenant_id; a record of NexusClient has none, so leave it empty",
        ),
        (
            ["entity,id,contact_id", "NexusClient,EX1,253", "NexusClient,EX1,254"],
            "lines 2 and 3 name the same record; take one away",
        ),
        (["entity,id,contact_id", 'NexusClient,"EX1'], "write fields with commas or quotes in double quotes"),
        (
            ["entity,id,contact_id", "NexusClient,EX1,25\x073"],
            "line 2 has a contact_id that no contact can have; give the id that Accela shows",
        ),
    ],
)
def test_a_file_that_cannot_be_taken_is_refused_with_its_line(lines: list[str], said: str) -> None:
    with pytest.raises(RefusedError) as caught:
        rows(*lines)
    assert str(caught.value).endswith(said)


def test_rows_add_change_and_remove_links_and_those_not_named_stay() -> None:
    held = [Link(ANN, "1", 5, "then"), Link(BEA, "2", 6, "then")]

    plan = taken(held, "NexusClient,EX1,1", "NexusClient,EX2,3", "NexusClient,EX3,4")

    assert plan == LinkPlan([Link(CLEO, "4")], [Link(BEA, "3")], [], [Link(ANN, "1", 5, "then")])
    assert after(held, plan) == [Link(ANN, "1", 5, "then"), Link(BEA, "3"), Link(CLEO, "4")]
    assert taken(held, "NexusClient,EX1,") == LinkPlan([], [], [ANN], [])
    assert taken(held, "NexusClient,EX3,") == LinkPlan()


def test_two_records_on_one_contact_are_refused_unless_the_file_unlinks_one() -> None:
    advice = r"a contact belongs to one record\. Name the other record with an empty contact_id to unlink it$"
    with pytest.raises(RefusedError, match=rf"^lines 2 and 3 tie two records to one contact; {advice}"):
        taken([], "NexusClient,EX1,1", "NexusClient,EX2,1")
    with pytest.raises(RefusedError, match="line 2 and a link that is held tie"):
        taken([Link(ANN, "1")], "NexusClient,EX2,1")

    assert taken([Link(ANN, "1")], "NexusClient,EX2,1", "NexusClient,EX1,").added == [Link(BEA, "1")]
    assert taken([Link(ANN, "1"), Link(BEA, "2")], "NexusClient,EX1,2", "NexusClient,EX2,1").changed == [
        *(Link(ANN, "2"), Link(BEA, "1"))
    ]


# By a column


def client(id_: str, location: int = 9) -> Who:
    return Who("Client", 11, location, id_)


def test_a_column_adds_changes_and_removes_links() -> None:
    held = [Link(client("a"), "1", 5), Link(client("b"), "2", 5), Link(client("c"), "3", 5), Link(ANN, "9", 5)]
    claims = [
        *(Claim(client("a"), "1", is_alive=True), Claim(client("b"), "4", is_alive=True)),
        *(Claim(client("c"), "", is_alive=True), Claim(client("d"), "5", is_alive=True)),
    ]

    plan, refused = plan_column(held, "Client", claims)

    assert plan == LinkPlan([Link(client("d"), "5")], [Link(client("b"), "4")], [client("c")], [Link(client("a"), "1", 5)])
    assert refused == []


def test_the_link_of_a_person_moves_with_the_location_and_keeps_what_was_pushed() -> None:
    plan, _ = plan_column([Link(client("a", 9), "1", 5, "then")], "Client", [Claim(client("a", 10), "1", is_alive=True)])

    assert plan == LinkPlan([], [Link(client("a", 10), "1", 5, "then")], [client("a", 9)], [])


def test_one_that_is_deleted_or_gone_keeps_its_link_until_a_living_one_claims_the_contact() -> None:
    held = [Link(client("a"), "1", 5), Link(client("b"), "2", 5)]

    plan, _ = plan_column(held, "Client", [Claim(client("a"), "1", is_alive=False)])
    assert plan == LinkPlan([], [], [], held)

    plan, refused = plan_column(held, "Client", [Claim(client("c"), "1", is_alive=True), Claim(client("d"), "2", is_alive=True)])
    assert (plan.removed, refused) == ([client("a"), client("b")], [])
    assert plan.added == [Link(client("c"), "1"), Link(client("d"), "2")]


def test_living_ones_that_claim_one_contact_have_none_whoever_else_has_it() -> None:
    claims = [Claim(client(id_), "1", is_alive=True) for id_ in "ab"]

    plan, refused = plan_column([Link(client("a"), "1", 5)], "Client", claims)
    assert (plan, refused) == (LinkPlan([], [], [client("a")], []), [client("a"), client("b")])

    plan, refused = plan_column([Link(ANN, "1")], "Client", claims[:1])
    assert (plan, refused) == (LinkPlan(), [client("a")])
