from __future__ import annotations

from typing import Any

import pytest

from client_sdk import Channel, ConfigError, SyncChannel
from client_sdk.names import document_names


@pytest.mark.parametrize("token", ["", 5, b"x", "a\nb", "\u00e9", "two words"])
async def test_a_token_that_can_never_work_is_refused_at_once(token: Any) -> None:
    with pytest.raises(ConfigError, match="token"):
        Channel("ws://127.0.0.1:1", token)
    with pytest.raises(ConfigError, match="token"):
        SyncChannel("ws://127.0.0.1:1", token)


@pytest.mark.parametrize("docs", [[], [5], [""], ["x" * 257], ["self@0123456789abcdef"], [None], ["user:\ud800"]])
def test_a_name_that_can_not_be_watched_is_refused_at_the_call(docs: Any) -> None:
    with pytest.raises(ValueError, match="document"):
        document_names(docs)


def test_names_are_kept_in_order() -> None:
    assert document_names("self") == ("self",)
    assert document_names(["org:a@b", "user:x"]) == ("org:a@b", "user:x")


async def test_a_channel_refuses_such_names_before_anything_is_sent() -> None:
    channel = Channel("ws://127.0.0.1:1", "token")
    with pytest.raises(ValueError, match="without a revision"):
        await channel.watch(["self@0123456789abcdef"])
    with pytest.raises(ValueError, match="document"):
        await channel.unwatch([])
    with pytest.raises(ValueError, match="halves"):
        await channel.sync("user:\udfff")


@pytest.mark.parametrize("name", ["open_timeout_s", "close_timeout_s", "max_message_bytes", "pong_timeout_s"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "5", -1, True])
async def test_an_option_that_can_not_be_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        Channel("ws://127.0.0.1:1", "t1", **{name: value})


async def test_a_channel_may_wait_for_ever_to_open_and_not_at_all_to_close() -> None:
    Channel("ws://127.0.0.1:1", "t1", open_timeout_s=None, close_timeout_s=0)
