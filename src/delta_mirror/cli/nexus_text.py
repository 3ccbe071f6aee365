"""What `sync nexus` says of messages, in words and for programs."""

from typing import TYPE_CHECKING

from delta_mirror.cli.messages import complain

if TYPE_CHECKING:
    from delta_mirror.jobs.intake import Tallied


def complain_of_quarantine(tallied: "Tallied") -> None:
    """Say what is new in quarantine."""
    if tallied.new_in_quarantine:
        complain(
            f"not applied, and in quarantine: {number_of(tallied.new_in_quarantine, 'message')}; `sync quarantine list` shows why"
        )


def number_of(number: int, thing: str) -> str:
    """Return *number* and *thing*, in the plural where it is not one."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def told(tallied: "Tallied") -> str:
    """Return what became of messages, in words."""
    outcomes = {name: getattr(tallied, name) for name in ("applied", "superseded", "quarantined", "repeated")}
    parts = [f"{number} {name}" for name, number in outcomes.items() if number]
    parts += [f"{tallied.erased} of clients who were erased"] if tallied.erased else []
    changes = [
        number_of(tallied.inserted, "new client") if tallied.inserted else "",
        number_of(tallied.replaced, "change") if tallied.replaced else "",
    ]
    return "; ".join(filter(None, [", ".join(parts), ", ".join(filter(None, changes))])) or "nothing new"


def outcomes_of(tallied: "Tallied") -> dict[str, int]:
    """Return how many messages met which outcome, as programs read it."""
    return {
        "taken": tallied.messages,
        "applied": tallied.applied,
        "superseded": tallied.superseded,
        "quarantined": tallied.quarantined,
        "repeated": tallied.repeated,
        "erased": tallied.erased,
    }
