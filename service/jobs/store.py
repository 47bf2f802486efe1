"""JobStore: jobs, what came of them, and lines about them, as records of the catalogue; every engine has those.

A job is written with the version that was read, so that of two who want it one gets it. Blocks; safe from any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from index.errors import NotFound, RecordNotFound
from index.records import Record, Records
from service.jobs.state import Job, as_record, of_record, outdated

JOB, RESULT, LINES = "job", "job-result", "job-lines"
# Characters of one piece of a result or of lines: with four bytes each, or all of them escaped, below MAX_RECORD.
PIECE = 200_000
# Bytes of a result; what is larger is the kind's own to keep.
MAX_RESULT = 64 * 2**20
# Jobs of one request to the records.
PAGE = 200


class JobNotFound(NotFound):
    """No such job in the collection, or it was long ago."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A job as it is stored. version: of its record."""

    job: Job
    version: int


class JobStore:
    """Over a catalogue's records."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def create(self, job: Job) -> Kept:
        """Keeps a new job, and forgets old ones of its collection. Raises StorageError."""
        kept = self._kept(self._records.put(JOB, name(job), as_record(job), expected=0))
        self.forget(outdated(each.job for each in self.all(job.collection)))
        return kept

    def get(self, collection: str, id: str) -> Kept:
        """Raises JobNotFound."""
        try:
            return self._kept(self._records.get(JOB, f"{collection}/{id}"))
        except RecordNotFound:
            raise JobNotFound(f"no job {id!r} in collection {collection!r}") from None

    def save(self, kept: Kept, job: Job) -> Kept:
        """Replaces what was read as `kept`. Raises RecordConflict where somebody else has written it meanwhile."""
        return self._kept(self._records.put(JOB, name(job), as_record(job), expected=kept.version))

    def all(self, collection: str | None = None) -> Iterator[Kept]:
        """Every job, of one collection or of all; the oldest of each collection first."""
        for record in self._list(JOB, "" if collection is None else f"{collection}/"):
            yield self._kept(record)

    def forget(self, jobs: Sequence[Job]) -> None:
        """Removes jobs with all that is kept of them."""
        for job in jobs:
            for kind in (RESULT, LINES):
                self._remove(kind, f"{name(job)}/")
            self._remove(JOB, name(job))

    def put_result(self, job: Job, text: str) -> None:
        """Keeps what came of a job. Raises ValueError where it is longer than MAX_RESULT."""
        if len(text.encode()) > MAX_RESULT:
            raise ValueError(f"a job's result may have {MAX_RESULT} bytes")
        self._put(RESULT, job, [text[start : start + PIECE] for start in range(0, len(text), PIECE)])

    def result(self, job: Job) -> str:
        """Raises JobNotFound where nothing is kept."""
        pieces = self._pieces(RESULT, job)
        if not pieces:
            raise JobNotFound(f"job {job.id} has no result")
        return "".join(pieces)

    def put_lines(self, job: Job, lines: Sequence[str]) -> None:
        """Keeps lines about a job, in place of those that were kept before."""
        pieces: list[str] = []
        piece: list[str] = []
        size = 0
        for line in lines:
            if size + len(line) > PIECE and piece:
                pieces.append("".join(piece))
                piece, size = [], 0
            piece.append(line + "\n")
            size += len(line) + 1
        self._put(LINES, job, [*pieces, *(["".join(piece)] if piece else [])])

    def lines(self, job: Job) -> str:
        """The lines, each with its end."""
        return "".join(self._pieces(LINES, job))

    def _put(self, kind: str, job: Job, pieces: Sequence[str]) -> None:
        for number, piece in enumerate(pieces):
            self._records.put(kind, f"{name(job)}/{number:06}", {"text": piece})
        for record in self._list(kind, f"{name(job)}/"):
            if int(record.name.rpartition("/")[2]) >= len(pieces):
                self._remove(kind, record.name)

    def _pieces(self, kind: str, job: Job) -> list[str]:
        return [str(record.value["text"]) for record in self._list(kind, f"{name(job)}/")]

    def _list(self, kind: str, prefix: str) -> Iterator[Record]:
        cursor: str | None = None
        while True:
            page = self._records.list(kind, prefix=prefix, limit=PAGE if kind == JOB else 8, cursor=cursor)
            yield from page.records
            if (cursor := page.next_cursor) is None:
                return

    def _remove(self, kind: str, prefix: str) -> None:
        """A record of this name, or all whose name begins with it where it ends with a slash."""
        names = [record.name for record in self._list(kind, prefix)] if prefix.endswith("/") else [prefix]
        for each in names:
            try:
                self._records.delete(kind, each)
            except RecordNotFound:
                continue  # by somebody else

    @staticmethod
    def _kept(record: Record) -> Kept:
        return Kept(of_record(record.value), record.version)


def name(job: Job) -> str:
    """Of a job's record: jobs of a collection lie together, in the order in which they came."""
    return f"{job.collection}/{job.id}"
