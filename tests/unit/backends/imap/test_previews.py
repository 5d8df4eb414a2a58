from __future__ import annotations

from app.backends.imap.previews import previews_of

from tests.unit.backends.imap.scripted import scripted_session

TEXT = '("TEXT" "PLAIN" ("CHARSET" "utf-8") NIL NIL "7BIT" 4 1)'


async def test_previews_without_preview_come_from_the_first_text_part() -> None:
    mixed = f'({TEXT} ("TEXT" "HTML" NIL NIL NIL "7BIT" 9 1) "ALTERNATIVE")'
    session, server = scripted_session(
        {
            "UID FETCH 1:2 (UID BODYSTRUCTURE)": f"* 1 FETCH (UID 1 BODYSTRUCTURE {mixed})\r\n"
            '* 2 FETCH (UID 2 BODYSTRUCTURE ("IMAGE" "PNG" NIL NIL NIL "BASE64" 4))\r\n$ OK done\r\n',
            "UID FETCH 1 (UID BODY.PEEK[1]": '* 1 FETCH (UID 1 BODY[1]<0> "Dear\r\n'.replace("\r\n", " ")
            + 'you")\r\n$ OK done\r\n',
        }
    )

    assert await previews_of(session, "INBOX", [1, 2]) == {1: "Dear you", 2: ""}
    assert server.told[-1] == "UID FETCH 1 (UID BODY.PEEK[1]<0.4096>)"


async def test_a_preview_that_the_server_does_not_have_comes_from_the_first_text_part() -> None:
    session, _ = scripted_session(
        {
            "UID FETCH 1:2 (UID PREVIEW)": '* 1 FETCH (UID 1 PREVIEW "Dear you")\r\n* 2 FETCH (UID 2 PREVIEW NIL)\r\n'
            "$ OK done\r\n",
            "UID FETCH 2 (UID BODYSTRUCTURE)": f"* 2 FETCH (UID 2 BODYSTRUCTURE {TEXT})\r\n$ OK done\r\n",
            "UID FETCH 2 (UID BODY.PEEK[1]": '* 2 FETCH (UID 2 BODY[1]<0> "Hello")\r\n$ OK done\r\n',
        },
        "IMAP4rev1 PREVIEW",
    )

    assert await previews_of(session, "INBOX", [1, 2]) == {1: "Dear you", 2: "Hello"}


async def test_the_words_of_a_small_calendar_are_the_preview_of_a_message_without_text() -> None:
    event = "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:Standup\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    calendar = '("TEXT" "CALENDAR" ("METHOD" "REQUEST") NIL NIL "7BIT" {} 5)'
    session, server = scripted_session(
        {
            "UID FETCH 1:2 (UID BODYSTRUCTURE)": f"* 1 FETCH (UID 1 BODYSTRUCTURE {calendar.format(len(event))})\r\n"
            f"* 2 FETCH (UID 2 BODYSTRUCTURE {calendar.format(99_999)})\r\n$ OK done\r\n",
            "UID FETCH 1 (UID BODY.PEEK[1]": f"* 1 FETCH (UID 1 BODY[1]<0> {{{len(event)}}}\r\n{event})\r\n"
            "$ OK done\r\n",
        }
    )

    assert await previews_of(session, "INBOX", [1, 2]) == {1: "Standup", 2: ""}
    assert server.told[-1] == "UID FETCH 1 (UID BODY.PEEK[1]<0.32768>)"
