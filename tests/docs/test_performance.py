"""The tables of docs/performance.md show what is run, and its drawing shows what is in the table."""

import ast
import re
from xml.etree import ElementTree

from documents import ROOT, rows, section

PEERS = ROOT / "bench" / "peers"
PERFORMANCE = ROOT / "docs" / "performance.md"
SVG = "{http://www.w3.org/2000/svg}"


def worlds() -> list[str]:
    tree = ast.parse((PEERS / "small_worlds.py").read_text(encoding="utf-8"))
    [found] = [node for node in tree.body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "WORLDS"]
    assert isinstance(found.value, ast.Dict)
    return [ast.literal_eval(key) for key in found.value.keys if key is not None]


def tools() -> set[str]:
    return set(re.findall(r'Tool\("([^"]+)"', (PEERS / "tools.py").read_text(encoding="utf-8")))


def test_table_of_small_worlds_has_a_row_for_each_world_that_is_run_in_their_order() -> None:
    assert [row[0] for row in rows(section(PERFORMANCE, "Small worlds"))] == worlds()


def test_table_of_times_has_a_row_for_each_tool_at_each_step() -> None:
    named = [row[1] for row in rows(section(PERFORMANCE, "Time and memory"))]

    assert set(named) == tools()
    assert {named.count(tool) for tool in tools()} == {3}


def test_small_worlds_have_a_verdict_for_each_tool() -> None:
    assert {len(row) for row in rows(section(PERFORMANCE, "Small worlds"))} == {1 + len(tools())}


def test_drawn_curve_has_the_points_of_its_table() -> None:
    drawn = ElementTree.parse(ROOT / "docs" / "scale.svg")
    values = [text.text for text in drawn.iter(f"{SVG}text") if text.get("class") == "value"]
    table = rows(section(PERFORMANCE, "The curve"))

    assert "(scale.svg)" in section(PERFORMANCE, "The curve"), "it is shown beside it"
    assert len(table) > 3
    assert values == [row[2] for row in table] + [row[3] for row in table]
