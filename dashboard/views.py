"""The page operators watch."""

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.views import View

# No inline script or style, nothing from elsewhere, and no string ever becomes markup: names of
# models and errors come from outside, and `require-trusted-types-for` makes innerHTML throw.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "font-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)


class LivePage(View):
    """GET /dashboard: a shell without figures; those arrive over `/ws/live`.

    It needs neither database nor Redis, so it opens, and says what is wrong, when both are away.
    """

    def get(self, request: HttpRequest) -> HttpResponse:
        route_url = request.build_absolute_uri("/api/v1/ai/route-request")
        # Without the request: context processors would look for a session and a user.
        page = render_to_string("dashboard/live.html", {"route_url": route_url})
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Cache-Control": "no-cache"}
        return HttpResponse(page, headers=headers)
