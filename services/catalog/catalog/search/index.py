"""The index itself: fed in PostgreSQL's order, searched by many threads at once. It is never the truth."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Collection, Iterable
from pathlib import Path

import tantivy

from catalog.search import schema
from catalog.search.pages import State
from catalog.search.values import Listing, Removed, SearchPage, SearchQuery

_WRITER_BYTES = 64_000_000


class SearchIndex:
    """Full-text search over listings. Any number of threads may search while one writes; writers take turns.

    What `apply` was given is found after `commit`. With a path the index survives restarts, and `last_sequence`
    says where to go on feeding; a change fed again does no harm. An index that is damaged, or of another version,
    is thrown away when opened: `last_sequence` is then 0. Without a path it lives in memory.
    """

    def __init__(
        self, path: Path | None, *, price_categories: Collection[str] = (), cached_answers: int = 4_096
    ) -> None:
        """`price_categories`: the buyer categories whose own prices can be ordered by; others go by the lowest price.

        `cached_answers`: how many pages and how many facets are kept until the next commit; 0 keeps none.
        """
        self._home = path
        self._price_categories = sorted(price_categories)
        self._cached_answers = cached_answers
        self._writing = threading.Lock()
        self._writer: tantivy.IndexWriter | None = None
        self._dirty = False
        self._uncommitted: set[str] = set()
        self.last_sequence = 0
        self._index = self._open()
        self._index.config_reader("manual")
        self._index.reload()
        self._state = State(self._index, self._price_categories, cached_answers)

    @property
    def listings(self) -> int:
        """How many listings can be found."""
        return self._state.listings

    def apply(self, changes: Iterable[Listing | Removed]) -> None:
        """Takes changes in order; the last one of an offering wins."""
        with self._writing:
            writer = self._open_writer()
            for change in changes:
                self._dirty = True
                # Each deletion is looked up in every segment at commit, so a first feed must not ask for any.
                if change.offering_id in self._uncommitted or self._state.holds(change.offering_id):
                    writer.delete_documents_by_term("offering_id", change.offering_id)
                if isinstance(change, Listing):
                    self._uncommitted.add(change.offering_id)
                    writer.add_document(schema.document(change, self._index.schema, self._price_categories))

    def clear(self) -> None:
        """Forgets everything at the next commit, to be fed anew from the first change."""
        with self._writing:
            self._open_writer().delete_all_documents()
            self._dirty = True

    def commit(self, sequence: int) -> None:
        """Makes everything applied findable, and durable with a path. `sequence`: the last change applied."""
        with self._writing:
            if self._dirty:
                self._open_writer().commit()
                self._index.reload()
                self._state = State(self._index, self._price_categories, self._cached_answers)
                self._dirty = False
                self._uncommitted.clear()
            # Noted after the index is durable: a crash in between feeds some changes twice, but skips none.
            self._note(sequence)
            self.last_sequence = sequence

    def search(self, query: SearchQuery) -> SearchPage:
        """One page. Raises TooDeep and WrongCursor, and ValueError for a page size below 1; never because of text."""
        # Taken once: a commit during the search must not mix two states.
        state = self._state
        return state.search(query)

    def close(self) -> None:
        """Ends the writer's threads. What was not committed is lost."""
        with self._writing:
            if self._writer is not None:
                self._writer.rollback()
                self._writer.wait_merging_threads()
                self._writer = None
                self._dirty = False
                self._uncommitted.clear()

    def _open_writer(self) -> tantivy.IndexWriter:
        if self._writer is None:
            self._writer = self._index.writer(_WRITER_BYTES, 1)
        return self._writer

    def _open(self) -> tantivy.Index:
        if self._home is None:
            return tantivy.Index(schema.build(self._price_categories))
        folder = self._home / "segments"
        try:
            noted = json.loads(self._note_path.read_text())
            if noted["version"] == schema.VERSION and noted["price_categories"] == self._price_categories:
                index = tantivy.Index.open(str(folder))
                self.last_sequence = int(noted["sequence"])
                return index
        except (OSError, ValueError, KeyError, TypeError):
            pass  # Never fed, or damaged; either way PostgreSQL has it all.
        self.last_sequence = 0
        self._note_path.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return tantivy.Index(schema.build(self._price_categories), str(folder))

    @property
    def _note_path(self) -> Path:
        assert self._home is not None
        return self._home / "fed.json"

    def _note(self, sequence: int) -> None:
        if self._home is None:
            return
        fresh = self._note_path.with_suffix(".new")
        with fresh.open("w") as file:
            noted = {"version": schema.VERSION, "price_categories": self._price_categories, "sequence": sequence}
            json.dump(noted, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._note_path)
