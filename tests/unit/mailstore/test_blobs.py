"""Message bytes on disk: several in one round of syncs, all of them or none."""

from __future__ import annotations

import hashlib
import os
import threading
from io import BufferedWriter, FileIO
from pathlib import Path

import pytest
from app.errors import StorageFull
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

    with pytest.raises(StorageFull):
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


async def test_what_another_process_receives_is_not_forgotten_and_what_a_dead_one_left_is(tmp_path: Path) -> None:
    receiving, other = Blobs(tmp_path), Blobs(tmp_path)
    writer = receiving.writer()
    writer.write(b"x" * (SMALL_BYTES + 1))
    (tmp_path / "incoming" / "left by a process that was killed").write_bytes(b"half a mess")

    other.forget_unfinished()

    assert len(list((tmp_path / "incoming").iterdir())) == 1
    await receiving.commit([writer])
    assert await other.get(writer.name) == b"x" * (SMALL_BYTES + 1)
    assert list((tmp_path / "incoming").iterdir()) == []


async def test_bytes_delivered_again_while_they_are_swept_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delivery comes between the look at the file's age and its removal, the worst moment."""
    blobs = Blobs(tmp_path)
    name = await blobs.put(b"hello")
    path = tmp_path / name[:2] / name[2:]
    os.utime(path, (1, 1))
    deliveries: list[threading.Thread] = []
    unlink = Path.unlink

    def unlink_late(self: Path, missing_ok: bool = False) -> None:
        if self == path and not deliveries:
            deliveries.append(threading.Thread(target=blobs._put, args=(b"hello",)))
            deliveries[0].start()
            deliveries[0].join(0.2)
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_late)
    blobs.remove([name])
    deliveries[0].join()

    assert path.read_bytes() == b"hello"


async def test_nothing_is_swept_while_blobs_are_kept(tmp_path: Path) -> None:
    blobs, other = Blobs(tmp_path), Blobs(tmp_path)
    name = await blobs.put(b"hello")
    os.utime(tmp_path / name[:2] / name[2:], (1, 1))

    with other.kept():
        assert list(blobs.old_names()) == [name]
        blobs.remove([name])
        assert await blobs.is_intact(name)
    blobs.remove([name])

    assert not await blobs.is_intact(name)
