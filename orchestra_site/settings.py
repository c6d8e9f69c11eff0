"""Django's settings: flat, and everything that varies comes through `environ.py`."""

import os
import sys
from typing import Any

from orchestra_site import environ
from orchestra_site import home as homes

ENVIRONMENT = environ.read()
HOME = homes.Home(ENVIRONMENT.home)
# A command beside a running `up` talks to its engines; its children get the URLs directly.
UP = None if ENVIRONMENT.database_url and ENVIRONMENT.redis_url else homes.running(HOME)

# What the operator gave.
API_HOST = ENVIRONMENT.api_host
API_PORT = ENVIRONMENT.api_port
REQUIRE_KEYS = ENVIRONMENT.keys_required
WEB_WORKERS = ENVIRONMENT.web_workers
RETENTION_DAYS = ENVIRONMENT.retention_days
SUMS_RETENTION_DAYS = ENVIRONMENT.sums_retention_days
BUDGETS_RETENTION_DAYS = ENVIRONMENT.budgets_retention_days
IDEMPOTENCY_TTL_S = ENVIRONMENT.idempotency_ttl_s
OLLAMA_URL = ENVIRONMENT.ollama_url or (UP.ollama_url if UP else environ.DEFAULT_OLLAMA_URL)
ORCHESTRA_HOME = ENVIRONMENT.home
SPOOL_DIR = HOME.spool
DATABASE_URL = ENVIRONMENT.database_url or (UP.database_url if UP else HOME.database_url)
REDIS_URL = ENVIRONMENT.redis_url or (UP.redis_url if UP else HOME.redis_url)
# Set by `up` when no Ollama was found and the simulator stands in.
OLLAMA_SIMULATED = bool(os.environ.get("ORCHESTRA_SIMULATED")) or (UP is not None and UP.simulated)
WORKER = os.environ.get("ORCHESTRA_WORKER", "")

SECRET_KEY = ENVIRONMENT.secret_key or HOME.secret_key()
DEBUG = False
ALLOWED_HOSTS = [
    "localhost",
    ".localhost",
    "127.0.0.1",
    "[::1]",
    API_HOST,
    *ENVIRONMENT.allowed_hosts,
]
if API_HOST in ("0.0.0.0", "::"):  # noqa: S104
    ALLOWED_HOSTS.remove(API_HOST)

# Forms behind a proxy that ends TLS come with its https:// origin.
CSRF_TRUSTED_ORIGINS = [
    f"https://{'*' if host.startswith('.') else ''}{host}" for host in ENVIRONMENT.allowed_hosts
]

INSTALLED_APPS = [
    # Before staticfiles, as it replaces `runserver`; nothing else needs it, and it imports Twisted,
    # which is a third of a second of every process's start.
    *(["daphne"] if sys.argv[1:2] == ["runserver"] else []),
    "unfold",  # before admin: replaces its templates
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "routing",
    "telemetry",
    "dashboard",
    "cli",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "orchestra_site.static.StaticFiles",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "orchestra_site.access.Access",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "orchestra_site.urls"
ASGI_APPLICATION = "orchestra_site.asgi.application"
# The contracted paths have no trailing slash; a POST must never be answered with a redirect.
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [environ.CHECKOUT / "orchestra_site" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES: dict[str, dict[str, Any]] = {"default": environ.database_settings(DATABASE_URL)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "ai-orchestra:cache",
        "OPTIONS": {"SOCKET_CONNECT_TIMEOUT": 1, "SOCKET_TIMEOUT": 1},
    }
}
# Without Redis the service is degraded, not broken.
DJANGO_REDIS_IGNORE_EXCEPTIONS = True
DJANGO_REDIS_LOG_IGNORED_EXCEPTIONS = True

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": "ai-orchestra:channels"},
    }
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "admin:login"
SESSION_COOKIE_NAME = "orchestra_session"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_NAME = "orchestra_csrf"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 16 * 1024 * 1024  # as the lanes' own limit

STATIC_URL = "/static/"
# Served from the installed packages: nothing to collect, and never a stale copy.
WHITENOISE_USE_FINDERS = True
# Revalidated at every load: an upgrade must not run with the scripts of the last release.
WHITENOISE_MAX_AGE = 0

USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False
LANGUAGE_CODE = "en-us"

REST_FRAMEWORK = {
    "EXCEPTION_HANDLER": "routing.api.problems.exception_handler",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_RENDERER_CLASSES": [
        "rest_framework.renderers.JSONRenderer",
        "rest_framework.renderers.BrowsableAPIRenderer",
    ],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"],
    # Who may come in at all is decided once for every page and path: `orchestra_site.access`.
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "AI Model Orchestra Controller",
    "DESCRIPTION": "Decides which AI model answers each request, and carries it out.",
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "Verdict": "telemetry.verdict.VERDICTS",
        "ModelState": "telemetry.verdict.MODEL_STATUSES",
        "PartState": "telemetry.verdict.PART_STATES",
    },
    "APPEND_COMPONENTS": {
        "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer"}},
    },
    # Without a key too, where none is required: views add the empty one themselves.
    "SECURITY": [{"apiKey": []}],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "routing.api.schema.add_lanes",
    ],
}

UNFOLD = {
    "SITE_TITLE": "AI Model Orchestra",
    "SITE_HEADER": "AI Model Orchestra",
    "SITE_URL": "/dashboard",
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        "django": {"handlers": [], "level": "WARNING", "propagate": True},
        # Every refused request would otherwise be a line here; the records tell of them.
        "django.request": {"level": "ERROR"},
        "django.server": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "orchestra_site": {"level": "INFO"},
        "routing": {"level": "INFO"},
        "telemetry": {"level": "INFO"},
        "dashboard": {"level": "INFO"},
    },
}

if WORKER.startswith("web"):
    # Views under ASGI change threads, so a connection kept per thread would leak: pool instead.
    DATABASES["default"]["OPTIONS"]["pool"] = {"min_size": 1, "max_size": 8, "timeout": 5}
    # A pooled connection may have died with a server that was restarted.
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
