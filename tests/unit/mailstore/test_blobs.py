"""Message bytes on disk: several in one round of syncs, all of them or none."""

from __future__ import annotations

import hashlib
import os
import threading
from io import BufferedWriter, FileIO
from pathlib import Path

import pytest
from app.mailstore.blobs import SMALL_BYTES, Blobs, BlobWriter

CONTENTS = [b"one", b"two", b"x" * (SMALL_BYTES + 1), b"one"]


def written(blobs: Blobs, contents: list[bytes] = CONTENTS) -> list[BlobWriter]:
    writers = [blobs.writer() for _ in contents]
    for writer, content in zip(writers, contents, strict=True):
        writer.write(content)
    return writers


def files(root: Path) -> set[str]:
    return {path.parent.name + path.name for path in root.glob("*/*")}


async def test_writers_of_one_round_are_all_in_place_under_the_hashes_of_what_was_written(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)

    await blobs.commit(written(blobs))

    assert files(tmp_path) == {hashlib.sha256(content).hexdigest() for content in CONTENTS}
    assert [await blobs.get(hashlib.sha256(content).hexdigest()) for content in CONTENTS] == CONTENTS


async def test_no_file_is_in_place_before_its_bytes_are_synced_and_each_folder_is_synced_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = Blobs(tmp_path)
    steps: list[tuple[str, str]] = []
    lock, fsync, replace = threading.Lock(), os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        fsync(descriptor)
        with lock:
            steps.append(("synced", path))

    def placed(self: Path, target: Path) -> Path:
        with lock:
            steps.append(("placed", f"{self} {target.parent}"))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", placed)
    await blobs.commit(written(blobs))

    moves = [(at, where.split()) for at, (what, where) in enumerate(steps) if what == "placed"]
    assert len(moves) == len(set(CONTENTS))
    for at, (source, folder) in moves:
        assert ("synced", source) in steps[:at]
        assert ("synced", folder) in steps[at:]


async def test_a_disk_without_room_keeps_none_of_a_round_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    writers = written(blobs)
    writers[1]._file = BufferedWriter(FileIO("/dev/full", "w"))
    writers[1].write(b"more")

    with pytest.raises(OSError, match="No space"):
        await blobs.commit(writers)

    assert files(tmp_path) == set()


async def test_a_small_message_is_in_no_file_until_it_is_committed(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    small, large = written(blobs, [b"x" * SMALL_BYTES, b"x" * (SMALL_BYTES + 1)])

    assert (small.content, large.content) == (b"x" * SMALL_BYTES, None)
    assert len(files(tmp_path)) == 1
    large.discard()
    small.discard()
    assert files(tmp_path) == set()
