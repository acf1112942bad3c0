"""Where the files of one node's store lie, and how a rebuilt database takes the place of a damaged one."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge.atomic_file import sync_directory

_COMPANIONS = ("-wal", "-shm")


class Place(msgspec.Struct, frozen=True):
    """The files of one node's store."""

    database: Path

    @property
    def log(self) -> Path:
        """SQLite's write-ahead log."""
        return Path(f"{self.database}-wal")

    @property
    def anchor(self) -> Path:
        return self.database.with_suffix(".anchor")

    @property
    def reserve(self) -> Path:
        return self.database.with_suffix(".reserve")

    @property
    def suspect(self) -> Path:
        """Stands from the moment damage is met until the database has been rebuilt."""
        return self.database.with_suffix(".suspect")

    @property
    def rebuilt(self) -> Path:
        """The database that is being made of what is left of a damaged one."""
        return self.database.with_suffix(".rebuilt")

    def remains(self) -> bool:
        """Whether anything beside the database shows that this store has lived before."""
        own = (self.database.name, self.reserve.name)
        return any(not path.name.startswith(own) for path in self.database.parent.glob(f"{self.database.stem}.*"))

    def finish_exchange(self) -> None:
        """After a crash: go on with an exchange that had begun, drop a rebuilt database that was not ready."""
        if self.database.exists():
            self._drop_rebuilt()
        elif self.rebuilt.exists():
            self._follow(self._aside(self._next_number() - 1))

    def exchange(self) -> Path:
        """Set the damaged database aside and put the rebuilt one, closed and synced, in its place.

        Returns the damaged one's new name. A crash at any point leaves what ``finish_exchange`` completes: the database
        itself goes first, so that one that stands is never without its own log.
        """
        aside = self._aside(self._next_number())
        self.database.rename(aside)
        self._follow(aside)
        return aside

    def _follow(self, aside: Path) -> None:
        for companion in _COMPANIONS:
            if (left := Path(f"{self.database}{companion}")).exists():
                left.rename(f"{aside}{companion}")
        self.rebuilt.rename(self.database)
        self.suspect.unlink(missing_ok=True)
        sync_directory(self.database.parent)

    def _drop_rebuilt(self) -> None:
        for companion in ("", *_COMPANIONS, "-journal"):
            Path(f"{self.rebuilt}{companion}").unlink(missing_ok=True)

    def _aside(self, number: int) -> Path:
        return self.database.with_suffix(f".quarantined-{number}")

    def _next_number(self) -> int:
        number = 1
        while self._aside(number).exists():
            number += 1
        return number
