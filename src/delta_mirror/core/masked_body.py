"""Things that could not be applied, as they may be kept: what a mask takes away is taken out of their JSON, too.

What is set aside has no tables and columns yet: that is why it is set aside. So its columns are told by their names alone,
wherever they stand in it and however deep: rather too much is taken out than too little.

Invariants:

- A body in which nothing is masked is kept to the letter.
- One that was changed says so: it is wrapped as `{"masked": ...}`. It is never applied, as what it holds is not what was sent.
- What cannot be told apart by names (no JSON of objects, or every column of a table is masked) is not kept at all; what is kept
  then says so (`{"withheld": ...}`), and tells it from others only where there is a key to do that with.
"""

from collections.abc import Callable, Collection
from dataclasses import replace

from delta_mirror.core.erased import words_of
from delta_mirror.core.exact_json import Json, UnreadableError, object_of, pairs_of, read_json, write_anyhow
from delta_mirror.core.mask import Action, Mask
from delta_mirror.core.model import Entry, Page, Record, Value

MASKED, WITHHELD = "masked", "withheld"
_SNAPSHOT = "snapshotdata"
_WHY = "[mirror.mask] takes columns of it away, and it cannot be read column by column"
_MARK = "withheld_mark"  # in the order of names behind the word by which it is recognized


def mask_page(mask: Mask, entity: str, page: Page) -> Page:
    """Return *page* of *entity* with its entries masked; their digests, which never leave the process, are those of before."""
    return replace(page, entries=[mask_entry(mask, entity, entry) for entry in page.entries])


def mask_entry(mask: Mask, entity: str, entry: Entry) -> Entry:
    """Return *entry* of *entity* as it may be stored, in tables or in quarantine."""
    if isinstance(entry, Record):
        return mask.record(entity, entry)
    tables = mask.of_entity(entity)
    if not tables:
        return entry
    body = mask_body(mask, tables, entry.body)
    if body is entry.body:
        return entry
    words = frozenset(words_of(entry.body)) if entry.id is None else entry.words
    return replace(entry, body=body, words=words)


def mask_body(mask: Mask, tables: Collection[str], body: str) -> str:
    """Return *body*, the JSON text of something of *tables*, as it may be kept; *body* itself where nothing of it is masked."""
    if was_changed(body) == WITHHELD:
        return body
    if mask.covers_all(tables):
        return withheld(mask, body)
    try:
        sent = _opened(read_json(body.encode(errors="surrogatepass")))
        left = mask_json(mask, sent, lambda name: mask.strictest(tables, name), _plain)
    except (UnreadableError, RecursionError):
        return withheld(mask, body)
    if not isinstance(left, dict):
        return withheld(mask, body)
    if left is sent:
        return body
    return write_anyhow(left if was_changed(body) else {MASKED: left})


def mask_json(
    mask: Mask, sent: Json, act: Callable[[str], Action], stored: Callable[[str, Json], Value | None]
) -> Json:  # fmt: skip
    """Return *sent* as *act* has it, which is asked of each member of its objects by name; *sent* itself where all is kept.

    *stored* gives the form in which a value would be stored: that is what is hashed.
    """
    if isinstance(sent, list):
        elements = [mask_json(mask, each, act, stored) for each in sent]
        return sent if all(left is each for left, each in zip(elements, sent, strict=True)) else elements
    if not isinstance(sent, dict):
        return sent
    pairs: list[tuple[str, Json]] = []
    has_changed = False
    for name, value in pairs_of(sent):
        action = act(name)
        if action == "keep" or value is None:
            left = mask_json(mask, value, act, stored)
            has_changed = has_changed or left is not value
            pairs.append((name, left))
        else:
            has_changed = True
            if action == "hash":
                pairs.append((name, mask.hashed(stored(name, value))))
    return object_of(pairs) if has_changed else sent


def was_changed(body: str) -> str | None:
    """Return `MASKED` or `WITHHELD` where *body* is no longer what was sent, else None."""
    return next((word for word in (MASKED, WITHHELD) if body.startswith(f'{{"{word}":')), None)


def withheld(mask: Mask, body: str) -> str:
    """Return what is kept instead of *body*."""
    mark = mask.mark(body)
    return write_anyhow({WITHHELD: _WHY} if mark is None else {WITHHELD: _WHY, _MARK: mark})


def _opened(sent: Json) -> Json:
    """Return *sent* with the text of a snapshot read, where that is what it holds.

    Raises:
        UnreadableError: it holds the text of one that is no JSON.
    """
    if not isinstance(sent, dict) or not any(name.lower() == _SNAPSHOT and type(value) is str for name, value in pairs_of(sent)):
        return sent
    pairs = [
        (name, read_json(value.encode(errors="surrogatepass")) if name.lower() == _SNAPSHOT and type(value) is str else value)
        for name, value in pairs_of(sent)
    ]
    return object_of(pairs)


def _plain(_: str, value: Json) -> Value | None:
    return write_anyhow(value) if isinstance(value, dict | list) else value
