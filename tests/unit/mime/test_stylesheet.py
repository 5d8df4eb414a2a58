"""Style sheets of messages, confined to their message."""

from __future__ import annotations

import re

import pytest
from app.mime.sanitise import boxed, sanitise_html
from app.mime.stylesheet import MAX_NESTING, MAX_SHEET_CHARS, confined
from hypothesis import given
from hypothesis import strategies as st


def css(sheet: str) -> str:
    return confined([sheet], "box").css


@pytest.mark.parametrize(
    ("sheet", "expected"),
    [
        ("p { color: red }", ".box p {color: red}"),
        (".a, td.b > #c { color: red }", ".box .a-box, .box td.b-box > #c-box {color: red}"),
        ("body { margin: 0; background: #eee }", ".box {margin: 0; background: #eee}"),
        ("html body.dark p { color: red }", ".box.dark-box p {color: red}"),
        ("body > table { width: 100% }", ".box > table {width: 100%}"),
        ("* { color: red !important }", ".box * {color: red !important}"),
        ("a:hover, li:nth-child( 2n + 1 ) { color: red }", ".box a:hover, .box li:nth-child(2n + 1) {color: red}"),
        ('td[class="a"] { width: 1px }', ".box td.a-box {width: 1px}"),
        ("/* x */ p /* y */ { /* z */ color: /* w */ red }", ".box p {color: red}"),
        ("<!-- p { color: red } -->", ".box p {color: red}"),
        ("p { background: url(//e/a.png) no-repeat #eee }", ".box p {background: no-repeat #eee}"),
        ("p + b ~ i > u { color: red }", ".box p + b ~ i > u {color: red}"),
        (
            "@media only screen and (max-width:600px) { .a { width: 100% !important } }",
            "@media only screen and (max-width:600px) {.box .a-box {width: 100% !important}}",
        ),
        (
            "@media (prefers-color-scheme: dark) { body { color: #fff } }",
            "@media (prefers-color-scheme: dark) {.box {color: #fff}}",
        ),
    ],
)
def test_rules_are_kept_for_the_message_alone(sheet: str, expected: str) -> None:
    assert css(sheet) == expected


@pytest.mark.parametrize(
    "sheet",
    [
        "@import url(//e); @import '//e';",
        "@font-face { font-family: x; src: url(//e) }",
        "@keyframes a { from { color: red } }",
        "@supports (color: red) { p { color: red } }",
        "@media (min-width: 1px) { @media screen { p { color: red } } }",
        "@media (aspect-ratio: url(x)) { p { color: red } }",
        "@namespace svg url(http://e); @page { margin: 0 } @layer a { p { color: red } }",
        "p { background: url(//e) }",
        "p { background: url(//e\\)) #eee }",
        "body + p, body.a ~ p, html ~ p, html > body+p, + p, ~p, body:hover ~ p b, body\n+ p { color: red }",
        "@container (width > 1px) { p { color: red } } @scope (p) { b { color: red } } p { & b { color: red } }",
        "p { background: u\\72l(//e) }",
        "p { background-image: image-set('//e' 1x) }",
        "p { width: expression(alert(1)); behavior: url(x); -moz-binding: url(x) }",
        "p { position: fixed; top: 0; left: 0; z-index: 2147483647 }",
        "p { outline: 3000px solid red; box-shadow: 0 0 0 9999px red; transform: scale(99); filter: blur(9px) }",
        "p { margin: -9999px; text-indent: -99px; animation: a 1s; transition: all 1s; content: 'x' }",
        "p { color: var(--x); --x: red }",
        "p::before, p::after, :root, :host, :not(p), :has(p), input[value^=a] { color: red }",
        "p { color: red",
        "",
        "}}}} p",
        ".a\\3c script { color: red }",
        "p { font-family: '</style><script>alert(1)</script>' }",
        "(" * (MAX_NESTING + 1) + "p { color: red }",
    ],
)
def test_nothing_loads_runs_moves_or_reaches_out(sheet: str) -> None:
    assert css(sheet) in ("", ".box p {color: red}" if sheet == "p { color: red" else "")


def test_a_selector_that_is_refused_takes_no_other_along() -> None:
    assert css("p::before, b { color: red } i { outline: 1px; color: blue }") == (
        ".box b {color: red}\n.box i {color: blue}"
    )


def test_classes_and_ids_are_renamed_in_the_markup_as_in_the_sheet() -> None:
    html = '<style>.a{color:red}#b{color:blue}</style><p class="a modal" id=b>x<b class=z id=q>y</b></p>'

    found = sanitise_html(html).html

    scope = re.search(r"\.(pg\w+) \.a-", found)
    assert scope is not None
    assert f'<p class="a-{scope[1]}" id="b-{scope[1]}">x<b>y</b></p>' in found
    assert f'<div class="{scope[1]}">' in found
    assert "modal" not in found


def test_two_messages_do_not_share_a_box() -> None:
    first, second = (sanitise_html(f"<style>p{{color:red}}</style><p>{text}</p>").html for text in ("one", "two"))

    assert first.partition("{")[0] != second.partition("{")[0]


def test_a_sheet_outside_of_the_documents_own_text_is_not_read() -> None:
    html = "<svg><style>p{color:red}</style></svg><template><style>p{color:red}</style></template><p>x</p>"

    assert sanitise_html(html).html == "<p>x</p>"


def test_a_sheet_for_a_medium_is_for_that_medium_alone() -> None:
    html = "<style media='(max-width: 480px)'>p{color:red}</style><style media=tv>b{color:red}</style><p>x</p>"

    found = sanitise_html(html).html

    assert re.match(r"<style>@media \(max-width: 480px\) {\.pg\w+ p {color: red}}</style>", found)


@pytest.mark.slow
def test_a_long_sheet_is_read_as_far_as_the_bound() -> None:
    found = css("p{color:red}\n" * (MAX_SHEET_CHARS // 10))

    assert len(found) <= 3 * MAX_SHEET_CHARS


@pytest.mark.parametrize(
    ("fragments", "is_plain"),
    [
        ("<p>Pay <b>me</b></p>", True),
        ("<p>" + "w" * 41 + "</p>", False),
        ('<p style="color: red">x</p>', False),
        ('<img src="data:">', False),
        ("<table><tbody><tr><td>x</td></tr></tbody></table>", False),
        ("<ul><li>x</li></ul>", False),
        ("<style>p{}</style>", False),
        ("<p>Zahl\u00b7en, Привет, Γειά, 日本語テスト、안녕 €5 “x”</p>", True),
        ("<p>X" + "\u0335\u0354" * 5 + "</p>", False),
        ("<p>\ufdfd\ufdfd</p>", False),
    ],
)
def test_what_could_be_drawn_outside_is_put_in_a_box_that_cuts_it_off(fragments: str, is_plain: bool) -> None:
    assert (boxed(fragments) == fragments) is is_plain
    assert (
        is_plain
        or boxed(fragments)
        == f'<div style="contain: content; overflow: auto; max-width: 100%; max-height: 100%">{fragments}</div>'
    )


@pytest.mark.parametrize(
    ("href", "kept"),
    [
        (" https://example.com/a", "https://example.com/a"),
        ("\n http://exa\nmple.com/b \t", "http://example.com/b"),
        ("//example.com/c", "https://example.com/c"),
        ("www.example.com/d", "http://www.example.com/d"),
        ("\x01https://example.com/e", "https://example.com/e"),
    ],
)
def test_a_link_is_spelled_as_browsers_read_it(href: str, kept: str) -> None:
    assert f'href="{kept}"' in sanitise_html(f'<a href="{href}">x</a>').html


def test_a_link_inside_the_message_goes_to_its_place_there() -> None:
    html = '<a href="#part2">Go</a><a href="#gone">x</a><a href="#">y</a><h2 id=other>h</h2><a name="part2">Part 2</a>'

    found = sanitise_html(html).html

    target = re.search(r'<a href="#(part2-\w+)"', found)
    assert target is not None
    assert f'id="{target[1]}"' in found
    assert found.count("href=") == 1
    assert "_blank" not in found.partition("Go")[0]


@given(st.text(alphabet="p{}().#:;@!,>[]\"'\\/*a-< \n", max_size=200))
def test_no_sheet_gets_out_of_its_element_or_its_box(sheet: str) -> None:
    found = css(sheet)

    assert "<" not in found
    assert "\\" not in found
    assert all(line.startswith((".box", "@media")) for line in found.split("\n") if line)
    assert found.count("{") == found.count("}")
