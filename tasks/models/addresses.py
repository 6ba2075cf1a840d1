"""Addresses of the dashboard for host pages and mails."""

from __future__ import annotations

from django.db import models
from django.urls import get_script_prefix, reverse

from tasks.conf import aftersave_settings
from tasks.models.records import record_key


def record_address(record: models.Model, using: str, site_name: str) -> str:
    """The page with all tasks of ``record``. Raises NoReverseMatch where no site has it."""
    content_type, key = record_key(record, using)
    path = reverse(
        "admin:tasks_task_record",
        kwargs={"app": content_type.app_label, "model": content_type.model, "key": key},
        current_app=site_name,
    )
    return absolute(path)


def absolute(path: str) -> str:
    """``path`` below AFTERSAVE["BASE_URL"], which names the prefix itself if there is one."""
    base = aftersave_settings.BASE_URL.rstrip("/")
    return f"{base}/{path.removeprefix(get_script_prefix())}" if base else path
