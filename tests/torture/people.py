"""People who are erased while everything else happens: who they are, what is true of them alone, and whether any of it is left.

Invariants:

- There is one client of the salon and one of Nexus at most, so that a mark of the mirror says whom it is of by its entity alone.
- They go on changing after they were erased, by words that were never sent before: what comes back is seen.
- Nobody else bears their words, and no record of others names them: what stays of a person by right is not looked at here.
- What an operator has himself (exports, files of messages and links, copies) and what a command has printed is not the mirror's.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from delta_mirror.simulator import World
from delta_mirror.simulator.profiles import profile_message

MESSAGE = "zebra-message-"  # what the broker's ids begin with, of messages of the client of Nexus
_OPERATORS = {"config.toml", "messages.jsonl", "links.csv", "export", "out"}


@dataclass(slots=True)
class Person:
    """One of them.

    `words` are what was sent of the person alone. `is_asked_for` says that it was tried to erase the person, `is_erased` that it
    was done, in the mirror that is there now.
    """

    entity: str
    id: str
    words: list[str] = field(default_factory=list)
    is_asked_for: bool = False
    is_erased: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        """What follows the command's name to erase the person."""
        tenant = () if self.entity == "NexusClient" else ("--tenant", "11")
        return (self.entity, self.id, *tenant, "--yes")


class People:
    """Those of one schedule; nobody, where nobody is erased in it."""

    def __init__(self, seed: int, world: World, *, somebody: bool) -> None:
        self._dice = Random(f"people/{seed}")
        self._world = world
        self._mark = f"zebra{seed}n"
        self.all: list[Person] = []
        if somebody:
            self.all = [Person("Client", ""), Person("NexusClient", f"EX-{self._mark}")]
            client, nexus = self.all
            client.id = world.create("Client", FirstName=self.word(client), locations=world.tenants[11])
            for person in (client, nexus):
                person.words.append(person.id)

    def of(self, entity: str) -> Person:
        """Return the one of *entity*."""
        return next(person for person in self.all if person.entity == entity)

    def asked_for(self, entity: str | None = None) -> list[Person]:
        """Return those whom somebody has tried to erase."""
        return [person for person in self.all if person.is_asked_for and entity in (None, person.entity)]

    def word(self, person: Person) -> str:
        """Return a word that is new, and is from now on one of *person*."""
        person.words.append(f"{self._mark}{sum(len(each.words) for each in self.all):04}z")
        return person.words[-1]

    def change(self) -> None:
        """Let something happen to the client of the salon."""
        for person in self.all[:1]:
            if self._world.is_deleted(person.id):
                self._world.revive(person.id)
            chance = self._dice.random()
            if chance < 0.6:
                self._world.edit(person.id, FirstName=self.word(person), EmailAddress=f"{self.word(person)}@example.com")
            elif chance < 0.8:
                self._world.add_phone(person.id, self.word(person))
            else:
                self._world.delete(person.id)

    def message(self, number: int) -> tuple[bytes, str] | None:
        """Return message *number*, if it is of the client of Nexus, and its MessageId; None where it is of somebody else."""
        if not self.all or self._dice.random() > 0.25:
            return None
        person = self.of("NexusClient")
        body = profile_message(3 * number, clients=3).replace(b"EX000000", person.id.encode())  # of client 0, at an own time
        for told in (b"Given0", f"555-{3 * number:07}".encode()):
            if told in body:
                body = body.replace(told, self.word(person).encode())
        person.words.append(f"{MESSAGE}{number}-")
        return body, person.words[-1]

    def forget(self) -> None:
        """From now on another mirror grows, which has no marks."""
        for person in self.all:
            person.is_erased = False


def check_nobody_is_back(copy: Path, people: Sequence[Person]) -> None:
    """Pass if the mirror at *copy* has, of whom it has marked, nothing but the mark, and has marked everybody who was erased."""
    if not people:
        return
    with closing(sqlite3.connect(copy)) as mirror:
        marked = {entity for (entity,) in mirror.execute("select entity from _erased")}
        missing = [person.entity for person in people if person.is_erased and person.entity not in marked]
        assert not missing, f"the mark of a {missing[0]} is gone"
        words = [word for person in people if person.entity in marked for word in person.words]
        for table, text in _texts(mirror) if words else ():
            left = [word for word in words if word in text]
            assert not left, f"{table} holds {left[0]} of somebody who was erased"


def check_nothing_is_left(folder: Path, people: Sequence[Person]) -> None:
    """Pass if no file that the program has made in *folder* has anything of whom it has said to be erased."""
    erased = [person for person in people if person.is_erased]
    for path in files_of_the_program(folder) if erased else ():
        # The id was told to the program, which may tell it: what it had of the person is another matter.
        text = path.read_bytes()
        for person in erased:
            words = [word for word in person.words if word != person.id or path.name.startswith("mirror.db")]
            left = [word for word in words if word.encode() in text]
            assert not left, f"{path.name} has {left[0]} of somebody who was erased"


def files_of_the_program(folder: Path) -> Iterator[Path]:
    """Yield the files that the program has made in *folder*, copies and what a command has printed apart."""
    for path in sorted(folder.rglob("*")):
        is_ours = _OPERATORS.isdisjoint(path.relative_to(folder).parts) and "backup.db" not in path.name
        if is_ours and path.is_file():
            yield path


def _texts(mirror: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Yield each table's name with all that it holds, as one text."""
    for (table,) in mirror.execute("select name from sqlite_master where type = 'table'").fetchall():
        yield table, "\n".join(map(repr, mirror.execute(f'select * from "{table}"')))
