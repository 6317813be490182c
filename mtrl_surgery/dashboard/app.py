"""The Dash application: nothing is loaded from elsewhere, nothing is served to elsewhere."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from dash import Dash
from flask import abort, request

from mtrl_surgery.dashboard.callbacks import register
from mtrl_surgery.dashboard.following import Follower
from mtrl_surgery.dashboard.layout import layout
from mtrl_surgery.dashboard.views import Views

_PAGE = """<!doctype html>
<html lang="en">
<head>
{{%metas%}}
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{{%title%}}</title>
<style>{style}</style>
<script src="{theme}"></script>
{{%css%}}
</head>
<body>
{{%app_entry%}}
<footer>{{%config%}}{{%scripts%}}{{%renderer%}}</footer>
</body>
</html>
"""

_LOCAL = ("127.0.0.1", "localhost", "[::1]")


def make_app(follower: Follower, host: str | None) -> Dash:
    """The application; its `server` is a WSGI application.

    Args:
        follower: Whose runs it shows; started by the caller.
        host: The loopback address that it is served on, as a browser names it. Then it must be asked for by that or
            another name of this machine's own: a page of a stranger that has its own name lead here is refused. None:
            it may be asked for by any name.
    """
    app = Dash(
        __name__,
        title=f"{follower.roots} · mtrl-surgery",
        update_title="",
        assets_folder=str(Path(__file__).parent / "assets"),
        assets_ignore=r"theme\.js",
        serve_locally=True,
        add_log_handler=False,
        suppress_callback_exceptions=True,  # a view's sections come and go
    )
    style = files("mtrl_surgery.reports").joinpath("assets", "page.css").read_text(encoding="utf-8")
    app.index_string = _PAGE.format(style=style, theme=app.get_asset_url("theme.js"))
    app.layout = layout(str(follower.roots))
    register(app, Views(follower))
    policy = _policy(app)

    @app.server.before_request  # type: ignore[untyped-decorator]
    def refuse_strangers() -> None:
        # Werkzeug's own TRUSTED_HOSTS cuts names at the first colon, and with it every IPv6 address.
        asked = re.sub(r":\d*$", "", request.headers.get("Host", "")).lower()
        if host is not None and asked not in (host, *_LOCAL):
            abort(400)

    @app.server.after_request  # type: ignore[untyped-decorator]
    def guard(response: Any) -> Any:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    return app


def _policy(app: Dash) -> str:
    """Everything from here; of inline scripts only Dash's own, by their hashes."""
    hashes = " ".join(f"'{own}'" if not own.startswith("'") else own for own in app.csp_hashes())
    rules = {
        "default-src": "'self'",
        "script-src": f"'self' {hashes}",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "frame-ancestors": "'none'",
        "form-action": "'none'",
        "base-uri": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())
