"""Messages in Chromium: none paints outside its box, and newsletters look as they are meant."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from app.mime.sanitise import boxed, sanitise_html
from playwright.sync_api import Browser, Page, sync_playwright

from tests.servers.process import find_program

HOST = (
    "<!doctype html><style>body { margin: 0; background: #fff; font: 16px sans-serif }"
    "#message { margin: 60px 40px; width: 300px; height: 150px; background: #eee }</style>"
    "<header>The app's own words</header><div id=message></div><footer class=a>More of them</footer>"
)
BIG = "width: 9999px; height: 9999px; background: red; color: red"
ATTACKS = {
    "fixed": f"<div style='position: fixed; top: 0; left: 0; z-index: 2147483647; {BIG}'>x</div>",
    "absolute": f"<div style='position: absolute; top: -500px; left: -500px; {BIG}'>x</div>",
    "sticky": f"<div style='position: sticky; bottom: 0; {BIG}'>x</div>",
    "negative margins": f"<div style='margin: -500px; margin: calc(0px - 500px); {BIG}'>x</div>",
    "outline": f"<div style='outline: 3000px solid red; box-shadow: 0 0 0 3000px red; {BIG}'>x</div>",
    "border": "<div style='border: 3000px solid red'>x</div>",
    "transform": f"<div style='transform: scale(99); translate: -500px; rotate: 45deg; {BIG}'>x</div>",
    "no line height": "<div style='line-height: 0; font-size: 900px; color: red'>XXXX<br>XXXX</div>",
    "raised text": "<div style='color: red'><span style='vertical-align: 400px; font-size: 90px'>XXXX</span></div>",
    "visible overflow": f"<div style='height: 1px; width: 1px; overflow: visible'><p style='{BIG}'>x</p></div>",
    "indent": "<p style='text-indent: -900px; letter-spacing: -90px; word-spacing: 900px; color: red'>XX XX</p>",
    "viewport": "<div style='width: 100vw; height: 100vh; min-height: 100vmax; background: red'>x</div>",
    "float": f"<div style='float: right; {BIG}'></div>" * 3,
    "table": "<table width=9999 height=9999 bgcolor=red cellspacing=999 border=999><tr><td>x</td></tr></table>",
    "picture": "<img width=9999 height=9999 hspace=999 vspace=999 border=999 alt=x style='background: red'>",
    "rule": "<hr size=9999 width=9999 color=red noshade>",
    "font": "<font size=7 color=red>" + "<big>" * 30 + "X" * 500,
    "marks": "<p><b>" + "X" + "\u0335\u0354\u0344\u0311" * 9 + "</b></p>",
    "wide letters": "<p>" + "\ufdfd" * 40 + "</p>",
    "long word": "<p>" + "X" * 900 + "</p>",
    "details": f"<details open><summary>x</summary><div style='{BIG}'>x</div></details>",
    "dialog": f"<dialog open style='{BIG}'>x</dialog><div popover style='{BIG}'>x</div>",
    "svg": (
        f"<svg><style>* {{ background: red }}</style></svg><math><style>* {{ color: red }}</style></math><i "
        f"style='{BIG}'>x</i>"
    ),
    "sheet: page": (
        "<style>html, body, :root, *, header, footer { background: red !important; color: red }</style><p>x</p>"
    ),
    "sheet: siblings": (
        "<style>body ~ *, body + *, + *, ~ *, html ~ footer, body > ~ * { background: red }</style><p>x</p>"
    ),
    "sheet: has": (
        "<style>:has(p), :is(header), :where(*), :not(p), ::part(x), * * { background: red }</style><p>x</p>"
    ),
    "sheet: class of the app": (
        "<style>.a, footer.a, #message, [id=message] { background: red }</style><p class=a>x</p>"
    ),
    "sheet: at-rules": (
        "<style>@media screen { header { background: red } } @supports (color: red) { header { color: red } }"
        "@layer x { header { color: red } } @container (width > 1px) { header { color: red } }"
        "@scope (html) { header { color: red } } @property --x { syntax: '*' } @starting-style { * { color: red } "
        "}</style>"
        "<p>x</p>"
    ),
    "sheet: end in a comment": "<style>p{} /* </style><style> */ header { background: red }</style><p>x</p>",
    "sheet: end in a string": "<style>p{ font-family: '</style><style>header{background:red}' }</style><p>x</p>",
    "sheet: escapes": (
        "<style>\\68 eader, .\\7d header { background: red } p{} }}} header { color: red }</style><p>x</p>"
    ),
    "sheet: pseudo-elements": (
        f"<style>p::before, p::after {{ content: 'X'; position: fixed; {BIG} }}</style><p>x</p>"
    ),
    "sheet: important": f"<style>* {{ position: fixed !important; contain: none !important; {BIG} }}</style><p>x</p>",
    "sheet: properties": f"<style>* {{ --a: fixed; position: var(--a); inset: 0; {BIG} }}</style><p>x</p>",
    "sheet: animation": (
        f"<style>@keyframes a {{ to {{ margin: -900px }} }} * {{ animation: a 1ms; {BIG} }}</style><p>x</p>"
    ),
    "sheet: filters": (
        f"<style>* {{ filter: drop-shadow(-200px 0 red); clip-path: none; zoom: 9; {BIG} }}</style><p>x</p>"
    ),
    "unclosed": "</div></div></p></style></body></html><header style='background: red'>x",
}
LOADS = (
    "<style>@import 'http://e/1'; @font-face { font-family: f; src: url(http://e/2) }"
    "p { font-family: f; background: url(http://e/3) #eee; background: u\\72l(http://e/4) }"
    "p { background-image: image-set('http://e/5' 1x); list-style: url(http://e/6); cursor: url(http://e/7), auto }"
    "p { --u: url(http://e/8); background: var(--u); border-image: url(http://e/9) 1; mask: url(http://e/10) }"
    "p { content: url(http://e/11); filter: url(http://e/12#a); -moz-binding: url(http://e/13) }"
    "@namespace url(http://e/14); p { behavior: url(http://e/15); background: src('http://e/16') }"
    "a:visited { background: url(http://e/17) } p { offset-path: url(http://e/18) }</style>"
    "<p style='background: url(http://e/19)'>x</p><table background='http://e/20'><tr><td>x</table>"
    "<svg><image href='http://e/21'/><use href='http://e/22#a'/></svg><link rel=stylesheet href='http://e/23'>"
    "<img src='http://e/24' srcset='http://e/25 1x'><video poster='http://e/26'></video>"
    "<input type=image src='http://e/27'><object data='http://e/28'></object><iframe src='http://e/29'></iframe>"
)
NEWSLETTER = (
    "<html><head><style>body { margin: 0; background: #f4f4f4 } .card { background: #fff; border-radius: 8px; "
    "width: 260px }"
    ".button { background: #06c url(//e/a.png) no-repeat; color: #fff; display: inline-block; padding: 8px }"
    ".row { display: flex; gap: 10px; justify-content: space-between } .preheader { display: none }</style>"
    "<style media='(max-width: 1px)'>.card { display: none }</style></head><body><div class=preheader>unseen</div>"
    "<table align=center class=card><tr><td><h1 style='color: #c00; font-size: 20px'>Weekly</h1>"
    "<div class=row><span id=left>left</span><span id=right>right</span></div><a class=button "
    "href=https://x.test>Read</a>"
    "</td></tr></table></body></html>"
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's browser."""
    program = find_program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    page = chromium.new_page(viewport={"width": 500, "height": 400})
    page.set_content(HOST)
    yield page
    page.close()


def _show(page: Page, html: str) -> None:
    """A message as an app shows it: what Postgate answers, as the content of an element."""
    shown = boxed(sanitise_html(html).html)
    page.evaluate("html => { document.querySelector('#message').innerHTML = html }", shown)


def _around(page: Page) -> bytes:
    """The picture of the page with the place of the message covered."""
    return page.screenshot(mask=[page.locator("#message")], animations="disabled", full_page=True)


def test_no_message_paints_outside_its_box(page: Page) -> None:
    _show(page, "<p>hello</p>")
    before = _around(page)
    reached_out = []

    for name, html in ATTACKS.items():
        _show(page, html)
        if _around(page) != before:
            reached_out.append(name)

    assert reached_out == []


def test_what_is_drawn_outside_is_seen(page: Page) -> None:
    before = _around(page)

    page.evaluate("html => { document.querySelector('#message').innerHTML = html }", ATTACKS["fixed"])

    assert _around(page) != before


def test_no_message_loads_anything(page: Page) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))

    _show(page, LOADS)
    page.evaluate("document.fonts.load('16px f')")
    page.wait_for_load_state("networkidle")

    assert requests == []


def test_a_newsletter_looks_as_it_is_meant(page: Page) -> None:
    _show(page, NEWSLETTER)

    def style(selector: str, name: str) -> str:
        script = "([selector, name]) => getComputedStyle(document.querySelector(selector))[name]"
        return str(page.evaluate(script, [f"#message {selector}", name]))

    left, right = (page.locator(f"#message span >> text={text}").bounding_box() for text in ("left", "right"))
    assert left is not None
    assert right is not None
    assert right["x"] - left["x"] > 150
    assert style("table", "backgroundColor") == "rgb(255, 255, 255)"
    assert style("table", "borderRadius") == "8px"
    assert style("a", "backgroundColor") == "rgb(0, 102, 204)"
    assert style("h1", "color") == "rgb(204, 0, 0)"
    assert not page.locator("#message >> text=unseen").is_visible()
    assert page.locator("#message >> text=Read").is_visible()
