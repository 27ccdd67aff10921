"""What surrounds the studio: the navigation bar, the few lines above the studio, and what ORFEAS is, below it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orfeas.engines import Engine

MARK = (
    '<svg class="mark" viewBox="0 0 32 32" aria-hidden="true"><path d="M16 2.5 28 9.2v13.6L16 29.5'
    ' 4 22.8V9.2z" fill="none" stroke="currentColor" stroke-width="2" stroke-linejoin="round"/><path d="M4.6 9.5 16 16l'
    '11.4-6.5M16 16v13" fill="none" stroke="currentColor" stroke-width="2" stroke-linejoin="round"/><circle cx="16"'
    ' cy="16" r="3.4" fill="currentColor"/></svg>'
)
_SUN_AND_MOON = (
    '<svg viewBox="0 0 24 24" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="1.8"'
    ' stroke-linecap="round"><g class="sun"><circle cx="12" cy="12" r="4"/><path d="M12 2.5v2M12 19.5v2M2.5 12h2M19.5'
    ' 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4"/></g><path class="moon" d="M20 14.2A8'
    ' 8 0 1 1 9.8 4a6.4 6.4 0 0 0 10.2 10.2z" stroke-linejoin="round"/></svg>'
)
_WAY_OUT = (
    '<svg viewBox="0 0 24 24" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="1.8"'
    ' stroke-linecap="round" stroke-linejoin="round"><path d="M10 4H5v16h5M15 8l4 4-4 4M19 12H9"/></svg>'
)
PROMISE = "One photo in. A solid, printable 3D model out."
_FEATURES = (
    (
        "Solid, and measured",
        "Every model is checked before you get it: watertight, wound one way, how thick its thinnest wall is, and"
        " whether it stands.",
    ),
    (
        "Millimetres that hold",
        "You ask for a longest side and get it, to 0.01 mm, in every format. STL and 3MF stand on the bed.",
    ),
    (
        "On this machine",
        "Pictures and models stay on the server that you are talking to. The page loads nothing from anywhere else.",
    ),
    (
        "The same for scripts",
        "Page, API, command line and Python take the same options and give the same files, down to the seed.",
    ),
)


def login(style: str) -> str:
    """What Gradio's page of the login says above its fields: who is there, and how it looks. style: CSS."""
    return (
        f'<title>ORFEAS</title><style>{style}</style><span class="login"><span class="brand">{MARK}ORFEAS</span>'
        f'<span class="promise">{PROMISE}</span><span class="who">This app has accounts. Whoever runs it gives you a'
        " name and a password.</span></span>"
    )


def nav(has_accounts: bool) -> str:
    """Brand, the two pages, the way out where one logs in, and the switch between light and dark."""
    way_out = (
        f'<a class="logout" href="logout?all_session=false" aria-label="Log out" title="Log out">{_WAY_OUT}'
        "<span>Log out</span></a>"
        if has_accounts
        else ""
    )
    return (
        '<a class="skip" href="#studio">Skip to the studio</a>'
        f'<nav aria-label="Main"><a class="brand" href="#studio" aria-label="ORFEAS">{MARK}<span>ORFEAS</span></a>'
        '<div class="links">'
        '<a href="#studio" data-page="studio">Studio</a><a href="#docs" data-page="docs">Docs</a>'
        f'<a href="#docs-api" data-page="api">API</a></div>{way_out}'
        '<button type="button" id="theme-switch" data-do="theme" aria-label="Dark colours" aria-pressed="false">'
        f"{_SUN_AND_MOON}</button></nav>"
    )


def hero(engine: Engine) -> str:
    """The promise, and the engine with its reason and caveat."""
    caveat = f'<span class="caveat">{escape(engine.caveat)}</span>' if engine.caveat else ""
    return (
        f'<header class="top"><div class="promise"><h1>{PROMISE}</h1></div>'
        f'<div class="engine"><p><b>{escape(engine.title)}</b> <span class="device">{escape(engine.device)}</span></p>'
        f"<p>{escape(engine.reason)} {caveat}</p></div></header>"
    )


def about() -> str:
    """What ORFEAS promises, below the studio."""
    cards = "".join(f"<li><h3>{title}</h3><p>{text}</p></li>" for title, text in _FEATURES)
    return f'<section aria-labelledby="about-title"><h2 id="about-title">What you get</h2><ul>{cards}</ul></section>'
