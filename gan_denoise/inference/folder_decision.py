"""Whether a file of a folder run is done, skipped or refused."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gan_denoise.audio import AudioError
from gan_denoise.core.locations import LocationError, is_remote
from gan_denoise.inference.file_task import FileTask, digest_of_stamp, read_digest
from gan_denoise.inference.folder_journal import Journal
from gan_denoise.inference.folder_plan import Item
from gan_denoise.inference.journal_entries import Entry
from gan_denoise.inference.listed_files import ListedFiles
from gan_denoise.inference.results import FileResult


@dataclass(frozen=True)
class Decider:
    """Compares files with what the journal says of them; threads may share it.

    Attributes:
        journal: Journal of the output folder, refreshed.
        settings: Digest of the model and options in use.
        overwrite: Whether everything is done again, and files of others are replaced.
        files: What lies at the addresses of the run.
    """

    journal: Journal
    settings: str
    overwrite: bool
    files: ListedFiles = field(default_factory=ListedFiles)

    def __call__(self, item: Item) -> FileResult | FileTask:
        """Return the result of a file that needs no work, or else the task for it."""
        try:
            return self._decide(item)
        except (AudioError, LocationError) as error:
            return _failed(item, str(error))

    def _decide(self, item: Item) -> FileResult | FileTask:
        if item.refused is not None:
            return _failed(item, item.refused)
        journal = self.journal
        existing = [path for path in item.outputs if self.files.is_there(path)]
        journal.refresh(own=True)  # what the same command has done meanwhile
        if not (self.overwrite or all(map(journal.knows, existing))):
            journal.refresh()  # what any other has
        foreign = [path for path in existing if not journal.knows(path)]
        if foreign and not self.overwrite:
            return _failed(item, f"{foreign[0]}: exists and was not written by gan-denoise here; "
                                 "--overwrite replaces it")
        entry = journal.entry(item.target)
        digest = (digest_of_stamp(*self.files.stamp(item.source)) if is_remote(item.source)
                  else "")  # of a file of this machine only where it decides: it is read for it
        task = FileTask(item.source, item.target, item.residual, digest, "", item.header)
        reason = self._reason_without_reading(item, entry)
        if reason is None:
            task = replace(task, digest=digest or read_digest(item.source))
            reason = self._reason(item, entry, task.digest)
        if reason is None:
            return task.result(**{**entry.figures, "status": "skipped", "reason": None})
        return replace(task, reason=reason)

    def _reason_without_reading(self, item: Item, entry: Entry | None) -> str | None:
        """Return why a file is done, whatever is in it; None where that decides."""
        if self.overwrite:
            return "overwrite"
        if entry is None:
            return "not finished" if self.journal.knows(item.target) else "new"
        if entry.input is None:
            return "not finished"
        return None

    def _reason(self, item: Item, entry: Entry, digest: str) -> str | None:
        """Return why a file is done again; None where an earlier run did it."""
        if entry.input != digest:
            return "the input changed"
        if entry.settings != self.settings:
            return "model or settings changed"
        if not self.journal.whole(entry, item.outputs, self.files.size):
            return "an output is missing or has another size"
        return None


def _failed(item: Item, error: str) -> FileResult:
    return FileResult(item.source, item.target, status="failed", error=error, **item.header)
