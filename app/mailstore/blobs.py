"""Message bytes by their hash: written and fsynced once, before any row points to them.

For embedded accounts they are the only copy. A file is `blobs/ab/cdef…` under the data directory, named by the
SHA-256 of its content. It never changes; `sweep` removes files that no row has pointed to for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import BinaryIO, TypeVar

from app import faults, files
from app.errors import GatewayError, StorageFull, StorageUnavailable
from app.mail.backend import WHOLE, ByteRange

T = TypeVar("T")

CHUNK_BYTES = 256 * 1024
SMALL_BYTES = 64 * 1024
"""Up to this size, reads and already buffered writes are done at once; larger ones in a thread."""
GRACE_SECONDS = 3600
PROBE_BYTES = 4096
SYNCS_AT_ONCE = 8
_FOLDERS = tuple(f"{number:02x}" for number in range(256))


class BlobMissing(GatewayError):
    """The store has lost bytes that a row points to, or they are damaged."""

    code = "blob_missing"


@contextlib.contextmanager
def _on_disk() -> Iterator[None]:
    """Turn disk errors into StorageFull or StorageUnavailable, except FileNotFoundError, which the caller handles."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "EIO")
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"The disk is full ({name})") from None
        raise StorageUnavailable(f"The disk failed ({name})") from None


class BlobWriter:
    """Receives a message in pieces; `Blobs.commit` makes it durable, `discard` drops it.

    Up to `SMALL_BYTES`, it is only in memory until then.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / "incoming" / secrets.token_hex(16)
        self._buffer = bytearray()
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    @property
    def name(self) -> str:
        """The hash of the bytes written so far."""
        return self._hash.hexdigest()

    @property
    def target(self) -> Path:
        """The final path, given by its name."""
        return _path_of(self._root, self.name)

    @property
    def content(self) -> bytes | None:
        """All bytes if it is small, else None."""
        return bytes(self._buffer) if self._file is None else None

    def write(self, piece: bytes | memoryview) -> None:
        """Raises StorageFull, StorageUnavailable."""
        self._hash.update(piece)
        self.size_bytes += len(piece)
        if self._file is None and self.size_bytes <= SMALL_BYTES:
            self._buffer += piece
            return
        with _on_disk():
            self._opened().write(piece)

    def _opened(self) -> BinaryIO:
        """Return the file, with the bytes that were in memory until now."""
        if self._file is None:
            self._file = files.create_in_use(self._path, CHUNK_BYTES)
            self._file.write(self._buffer)
            self._buffer.clear()
        return self._file

    def sync(self) -> None:
        """Flush and fsync. Blocks for as long as the disk needs."""
        file = self._opened()
        file.flush()
        os.fsync(file.fileno())
        faults.point("blob.synced")

    def place(self) -> None:
        """Move the file to its final path, after `sync`. Durable after the folder is synced too."""
        if _touch(self.target):
            self._path.unlink()
        else:
            self._path.replace(self.target)
        self._opened().close()
        faults.point("blob.placed")

    def discard(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # on a full disk, closing cannot write the buffer either
                self._file.close()
            self._path.unlink(missing_ok=True)


def _read(file: BinaryIO, size_bytes: int) -> bytes:
    with _on_disk():
        return file.read(size_bytes)


def _path_of(root: Path, name: str) -> Path:
    return root / name[:2] / name[2:]


def _touch(path: Path) -> bool:
    """Update the time of an existing file, so that a running sweep does not remove it."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


class Blobs:
    """The store of message bytes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._syncs = ThreadPoolExecutor(SYNCS_AT_ONCE, "blobs")
        for folder in (root, root / "incoming", *(root / name for name in _FOLDERS)):
            files.make_directory(folder)

    def forget_unfinished(self) -> None:
        """Remove files that dead processes left unfinished and never acknowledged."""
        for leftover in (self._root / "incoming").iterdir():
            files.remove_abandoned(leftover)

    def path_of(self, name: str) -> Path:
        """Return the path of a blob, which need not exist."""
        return _path_of(self._root, name)

    def writer(self) -> BlobWriter:
        return BlobWriter(self._root)

    async def commit(self, writers: Sequence[BlobWriter]) -> None:
        """Make the written bytes durable, all in one round of syncs.

        Raises StorageFull, StorageUnavailable; the writers are discarded then.
        """
        await asyncio.to_thread(self._commit, writers)

    def _commit(self, writers: Sequence[BlobWriter]) -> None:
        try:
            with _on_disk():
                self._at_once(BlobWriter.sync, writers)
                with self.kept():
                    for writer in writers:
                        writer.place()
                self._at_once(files.sync_directory, {writer.target.parent for writer in writers})
        except BaseException:
            for writer in writers:
                writer.discard()
            raise

    def _at_once(self, sync: Callable[[T], None], these: Collection[T]) -> None:
        """Run syncs concurrently, so that they share a journal commit. All have ended when it returns or raises."""
        if len(these) == 1:
            sync(*these)
            return
        done = [self._syncs.submit(sync, item) for item in these]
        wait(done)
        for item in done:
            item.result()

    async def put(self, content: bytes) -> str:
        """Store bytes and return their hash. Durable when it returns."""
        return await asyncio.to_thread(self._put, content)

    def _put(self, content: bytes) -> str:
        writer = self.writer()
        try:
            writer.write(content)
            self._commit([writer])
            return writer.name
        except BaseException:
            writer.discard()
            raise

    async def get(self, name: str, span: ByteRange = WHOLE) -> bytes:
        """Return a small blob, or a span of one. Raises BlobMissing, StorageUnavailable."""
        try:
            size = (span.stop if span.stop is not None else _path_of(self._root, name).stat().st_size) - span.start
            if size <= SMALL_BYTES:
                return self._get(name, span)
            return await asyncio.to_thread(self._get, name, span)
        except FileNotFoundError:
            raise BlobMissing from None

    def _get(self, name: str, span: ByteRange) -> bytes:
        with _on_disk(), _path_of(self._root, name).open("rb") as file:
            file.seek(span.start)
            content = file.read() if span.stop is None else file.read(max(0, span.stop - span.start))
        if span == WHOLE and hashlib.sha256(content).hexdigest() != name:
            raise BlobMissing
        return content

    async def stream(self, name: str, span: ByteRange = WHOLE) -> AsyncIterator[bytes]:
        """Yield the bytes in pieces of `CHUNK_BYTES`. Raises BlobMissing, StorageUnavailable."""
        try:
            with _on_disk():
                file = _path_of(self._root, name).open("rb")
        except FileNotFoundError:
            raise BlobMissing from None
        with file:
            file.seek(span.start)
            end = os.fstat(file.fileno()).st_size
            remaining = (end if span.stop is None else min(span.stop, end)) - span.start
            if remaining <= SMALL_BYTES:
                yield _read(file, max(0, remaining))
                return
            while remaining > 0:
                piece = await asyncio.to_thread(_read, file, min(CHUNK_BYTES, remaining))
                if not piece:
                    return
                remaining -= len(piece)
                yield piece

    def probe(self) -> None:
        """Write a file and remove it again. Raises StorageFull, StorageUnavailable."""
        writer = self.writer()
        try:
            with _on_disk():
                writer.write(b"\0" * PROBE_BYTES)
                writer.sync()
        finally:
            writer.discard()

    async def is_intact(self, name: str) -> bool:
        """Whether a blob exists and its content matches its name."""
        return await asyncio.to_thread(self._is_intact, name)

    def _is_intact(self, name: str) -> bool:
        try:
            with _path_of(self._root, name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == name
        except OSError:
            return False

    def size_bytes(self, name: str) -> int:
        try:
            return _path_of(self._root, name).stat().st_size
        except FileNotFoundError:
            raise BlobMissing from None

    def old_names(self) -> Iterator[str]:
        """Yield the names of blobs not written for `GRACE_SECONDS`: candidates for `remove`."""
        limit = time.time() - GRACE_SECONDS
        for folder in _FOLDERS:
            for entry in os.scandir(self._root / folder):
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat().st_mtime < limit:
                        yield folder + entry.name

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Prevent all processes from removing blobs during the block."""
        with files.locked(self._root / "lock", is_shared=True):
            yield

    def remove(self, names: Collection[str]) -> None:
        """Delete blobs that no row points to, unless rewritten meanwhile. Does nothing while blobs are kept."""
        limit = time.time() - GRACE_SECONDS
        with contextlib.suppress(BlockingIOError), files.locked(self._root / "lock", is_waiting=False):
            for name in names:
                path = _path_of(self._root, name)
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < limit:
                        path.unlink()
