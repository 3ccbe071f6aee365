"""What `sync doctor` finds of a shop, and ways to look at it."""

from installed import Shop

from delta_mirror.config import load_config
from delta_mirror.jobs.doctor import examine

Findings = list[dict[str, str]]


def examined(shop: Shop, *, expect: int = 5) -> Findings:
    """Return what is found, within this process, which is quicker."""
    found_here = list(examine(lambda: load_config(shop.configuration)))
    findings = [{"check": each.check, "state": each.state, "what": each.what, "remedy": each.remedy} for each in found_here]
    assert all(each["state"] == "ok" for each in findings) == (expect == 0), findings
    assert all(bool(each["remedy"]) == (each["state"] != "ok") for each in findings)
    return findings


def told(shop: Shop, *, expect: int = 5) -> Findings:
    """Return what the installed program finds."""
    report = shop.sync("doctor", "--json", expect=expect).json()
    assert report["ok"] == (expect == 0)
    findings: Findings = report["findings"]
    return findings


def wrong(findings: Findings) -> list[tuple[str, str]]:
    return [(finding["check"], finding["what"]) for finding in findings if finding["state"] != "ok"]


def found(findings: Findings, check: str) -> str:
    return "\n".join(f"{finding['state']}: {finding['what']}" for finding in findings if finding["check"] == check)


def assert_only(findings: Findings, check: str, *parts: str) -> None:
    """Pass if only *check* is not in order, and says *parts*."""
    assert {name for name, _ in wrong(findings)} == {check}, findings
    for part in parts:
        assert part in found(findings, check)
