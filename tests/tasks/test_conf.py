from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest

from tasks.conf import Settings, aftersave_settings, unknown_settings
from tasks.exceptions import AftersaveError, InvalidSetting


def test_every_setting_has_a_default() -> None:
    assert Settings() == Settings(**{f.name: getattr(Settings(), f.name) for f in fields(Settings)})
    assert all(field.name.isupper() for field in fields(Settings))


def test_the_host_overrides_a_default_and_the_others_stay(settings: Any) -> None:
    settings.AFTERSAVE = {"MAX_ATTEMPTS": 9}
    assert aftersave_settings.MAX_ATTEMPTS == 9
    assert timedelta(days=14) == aftersave_settings.KEEP_COMPLETED
    assert aftersave_settings.KEEP_FAILED is None


def test_a_host_without_the_setting_gets_the_defaults(settings: Any) -> None:
    del settings.AFTERSAVE
    assert aftersave_settings.MAX_ATTEMPTS == 5
    assert aftersave_settings.DATA_LIMIT == 1024 * 1024


def test_a_changed_setting_is_read_again_and_then_remembered(settings: Any) -> None:
    settings.AFTERSAVE = {"MAX_ATTEMPTS": 9}
    assert aftersave_settings.MAX_ATTEMPTS == 9
    settings.AFTERSAVE = {"MAX_ATTEMPTS": 3}
    assert aftersave_settings.MAX_ATTEMPTS == 3
    settings.AFTERSAVE["MAX_ATTEMPTS"] = 4
    assert aftersave_settings.MAX_ATTEMPTS == 3


def test_an_unknown_name_is_reported_and_breaks_nothing(settings: Any) -> None:
    settings.AFTERSAVE = {"xyz": 1, "MAX_ATTEMPTS": 2}
    assert unknown_settings() == ["xyz"]
    assert aftersave_settings.MAX_ATTEMPTS == 2
    with pytest.raises(AttributeError):
        _ = aftersave_settings.xyz


@pytest.mark.parametrize("value", [None, [], "x"])
def test_settings_that_are_no_dictionary_are_refused(settings: Any, value: Any) -> None:
    settings.AFTERSAVE = value
    with pytest.raises(InvalidSetting, match="must be a dictionary"):
        _ = aftersave_settings.MAX_ATTEMPTS
    assert issubclass(InvalidSetting, AftersaveError)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("same", "default"),
        (None, None),
        ("direct", "direct"),
        ({"default": "direct"}, "direct"),
        ({"default": None}, None),
        ({"other": "direct"}, "default"),
    ],
)
def test_the_session_alias_is_the_same_unless_the_host_names_another(
    value: Any, expected: str | None
) -> None:
    assert Settings(SESSION_ALIAS=value).session_alias("default") == expected
