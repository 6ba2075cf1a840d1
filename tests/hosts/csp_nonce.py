"""The example host under Django's own policy with nonces, which came with Django 6."""

from django.utils.csp import CSP

from tests.settings import *  # noqa: F403
from tests.settings import MIDDLEWARE, TEMPLATES

MIDDLEWARE = ["django.middleware.csp.ContentSecurityPolicyMiddleware", *MIDDLEWARE]
TEMPLATES[0]["OPTIONS"]["context_processors"].append("django.template.context_processors.csp")
SECURE_CSP = {
    "default-src": [CSP.SELF],
    # Only a script with the nonce runs, and what that one loads.
    "script-src": [CSP.NONCE, CSP.STRICT_DYNAMIC],
    "style-src": [CSP.NONCE],
}
