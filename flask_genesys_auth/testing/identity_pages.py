"""The pages of the development identity provider."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from werkzeug.wrappers import Response

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --paper: #f3f1fa; --card: #fff; --ink: #211d2e; --soft: #5d5870; --line: #d8d3e6;
  --accent: #5b3fa8; }}
@media (prefers-color-scheme: dark) {{ :root {{ --paper: #15131c; --card: #1f1c2a; --ink: #eae7f2; --soft: #ada6c2;
  --line: #3b3650; --accent: #b9a4f5; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.25rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
  overflow-wrap: anywhere; }}
main {{ width: 100%; max-width: 29rem; padding: clamp(1.5rem, 6vw, 2.5rem); background: var(--card);
  border: 1px solid var(--line); border-top: 4px solid var(--accent); border-radius: 10px; }}
h1 {{ margin: 0 0 .75rem; font-size: clamp(1.45rem, 5vw, 1.75rem); line-height: 1.25; }}
h2 {{ margin: 1.75rem 0 .5rem; font-size: 1.1rem; line-height: 1.3; }}
p {{ margin: 0 0 1rem; }}
main > :last-child {{ margin-bottom: 0; }}
.soft {{ color: var(--soft); font-size: .9rem; }}
button {{ font: inherit; min-height: 2.75rem; padding: .5rem 1rem; width: 100%; text-align: start; cursor: pointer;
  color: var(--ink); background: transparent; border: 1px solid var(--line); border-radius: 7px;
  overflow-wrap: anywhere; }}
button:hover, button:focus-visible {{ border-color: var(--accent); color: var(--accent); }}
button:focus-visible {{ outline: 3px solid var(--accent); outline-offset: 2px; }}
a {{ color: var(--accent); }}
ul {{ list-style: none; margin: 0; padding: 0; }}
form + p {{ margin-top: 1.25rem; }}
li + li {{ margin-top: .6rem; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
{script}
</body>
</html>
"""


def notice(title: str, body: str, *, script: str = "") -> Response:
    """Return a page.

    :param title: text; ``body`` and ``script`` are HTML.
    """
    return Response(_PAGE.format(title=escape(title), body=body, script=script), mimetype="text/html")


def post_on(action: str, fields: Mapping[str, str], title: str, said: str = "") -> Response:
    """Return the page that posts these fields on (saml-bindings 3.5); without a script it has a button.

    :param said: text above the button.
    """
    return notice(
        title,
        f'<form method="post" action="{escape(action)}">{hidden(**fields)}'
        f"{f'<p>{escape(said)}</p>' if said else ''}<button>Continue</button></form>",
        script="<script>document.forms[0].submit()</script>",
    )


def hidden(**fields: str) -> str:
    """Return a form's hidden fields, those left out that are empty."""
    return "".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in fields.items() if value
    )
