"""A message's structure survives its column, whatever bytes its header holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from app.mail.delta import Arrived
from app.mail.types import AccountId, BodyPart, MailboxId, MessageId
from app.mailstore.rows import detail_of, detail_values, structure_bytes
from app.mime.structure import MAX_PARTS, parse_structure

CORPUS = Path(__file__).parents[2] / "corpus" / "mime"
RAW_8_BIT = (
    b'Content-Type: a/b; name="caf\xe9"\r\nContent-Disposition: attachment; filename=caf\xe9\r\nContent-ID: <\xe9>\r\n'
    b"Content-Language: \xe9\r\nContent-Transfer-Encoding: \xe9\r\nContent-Description: \xc3\xa9\r\n\r\nx"
)


@pytest.mark.parametrize(
    "message",
    [RAW_8_BIT, *(path.read_bytes() for path in sorted(CORPUS.glob("*.eml")))],
    ids=["raw 8-bit", *(path.stem for path in sorted(CORPUS.glob("*.eml")))],
)
def test_a_structure_comes_out_of_its_column_as_it_went_in(message: bytes) -> None:
    parsed = parse_structure(message)
    arrived = Arrived(MailboxId("mbx_1"), 1, frozenset(), 0, len(message), parsed.overview, parsed.structure)

    columns = detail_values(AccountId("acc_1"), MessageId("msg_1"), arrived)

    assert detail_of(columns["structure"], columns["extra"], columns["header"]).structure == parsed.structure


def test_of_a_row_that_an_older_version_wrote_a_bounded_number_of_parts_is_decoded() -> None:
    inner = BodyPart("1", "multipart/mixed", children=tuple(BodyPart(f"1.{n}", "a/b") for n in range(1, 800)))
    whole = BodyPart("", "multipart/mixed", children=(inner, *(BodyPart(f"{n}", "a/b") for n in range(2, 9_000))))

    found = detail_of(structure_bytes(whole), None, None).structure

    assert found is not None
    assert [part.section for part in found.walk()] == [part.section for part in whole.walk()][:MAX_PARTS]
