from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any, Literal

import httpx2
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import LoggingConfig
from gateway.log import clean, configure_logging
from tests.support.waiting import eventually

TOKEN = "gw_" + "a1B2" * 12
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ1XzEifQ.c2lnbmF0dXJl-_"
NAMES = ["", "uvicorn", "uvicorn.error", "uvicorn.access", "websockets", "asyncio", "httpx2", "httpcore2"]


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def logged(
    form: Literal["console", "json"], level: Literal["debug", "info"] = "info"
) -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    configure_logging(LoggingConfig(level=level, format=form), stream)
    return logging.getLogger("gateway.test"), stream


def one_object(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    value = json.loads(line)
    assert isinstance(value, dict)
    return value


def test_a_line_for_people() -> None:
    logger, stream = logged("console")
    logger.info("Session ended.", extra={"session": "s_1", "after_s": 1.5, "docs": ["user:u_1"], "note": "two words"})
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO    gateway\.test: Session ended\."
        r' session=s_1 after_s=1\.5 docs=\["user:u_1"\] note="two words"\n',
        stream.getvalue(),
    )


def test_an_object_for_machines() -> None:
    logger, stream = logged("json")
    logger.warning(
        "Slow: %d ms", 12, extra={"session": "s_1", "seq": 7, "logger": "forged", "deep": {"a": [1, None, 2**70]}}
    )
    line = one_object(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("at"))
    assert line == {
        "level": "warning",
        "logger": "gateway.test",
        "message": "Slow: 12 ms",
        "session": "s_1",
        "seq": 7,
        "deep": {"a": [1, None, str(2**70)]},
    }


def test_the_level_counts() -> None:
    logger, stream = logged("console")
    logger.debug("no")
    assert stream.getvalue() == ""
    logger, stream = logged("console", "debug")
    logger.debug("yes")
    assert "yes" in stream.getvalue()
    logging.getLogger("websockets.server").debug("< GET /ws?ticket=x HTTP/1.1")
    assert "ticket" not in stream.getvalue()


@pytest.mark.parametrize("form", ["console", "json"])
@given(text=st.text(alphabet=st.characters() | st.sampled_from("\r\n\t\x00\x1b\x85\u2028\ud800")))
def test_a_value_never_makes_a_line_of_its_own(form: Literal["console", "json"], text: str) -> None:
    logger, stream = logged(form)
    logger.info("Name: %s", text, extra={"value": text, "deep": {text: [text]}})
    written = stream.getvalue()
    assert written.endswith("\n")
    assert len(written.splitlines()) == 1
    assert not any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in written[:-1])
    written.encode()


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize(
    "secret", [TOKEN, f"Bearer {JWT}", f"bearer {TOKEN}", f"BEARER  {JWT}", f"Authorization=Bearer%20{JWT}"]
)
def test_no_credential_gets_through(form: Literal["console", "json"], secret: str) -> None:
    logger, stream = logged(form)
    logger.info("The header was %r.", secret)
    logger.info(f"The header was {secret}", extra={"header": secret, "headers": {"authorization": [secret.encode()]}})
    logger.info("Frame", extra={secret: 1, "frame": json.dumps({"op": "auth", "token": secret})})
    logger.info("fits not: %d", secret)
    try:
        try:
            raise ValueError(f"bad: {secret}")
        except ValueError as error:
            raise RuntimeError(error) from error
    except RuntimeError:
        logger.exception("Failed", stack_info=True)
    written = stream.getvalue()
    assert "RuntimeError" in written
    for piece in (TOKEN[3:], *JWT.split(".")):
        assert piece not in written


def test_what_is_no_credential_stays() -> None:
    assert clean("gateway gw_ user=ada a bearing") == "gateway gw_ user=ada a bearing"
    assert clean("Grüße, Ada ☂") == "Grüße, Ada ☂"


def test_a_traceback_can_not_forge_a_line() -> None:
    logger, stream = logged("console")
    try:
        raise ValueError("x\n2026-11-21T19:10:00.000Z INFO    gateway.live.hub: forged")
    except ValueError:
        logger.exception("Failed")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("ERROR   gateway.test: Failed")
    assert all(line.startswith("    ") for line in rest)
    assert any("forged" in line for line in rest)


def test_a_value_that_can_not_be_shown_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    logger, stream = logged("json")
    logger.info("x", extra={"value": Broken(), "number": float("nan")})
    assert one_object(stream)["value"] == "<Broken>"
    assert capsys.readouterr().err == ""


async def test_uvicorn_ends_in_the_same_place_without_query_strings() -> None:
    _, stream = logged("json")

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    server = uvicorn.Server(uvicorn.Config(application, port=0, lifespan="off", log_config=None))
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx2.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{port}/seen?ticket=s3cret")).status_code == 204
    server.should_exit = True
    await serving
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    (access,) = [line["message"] for line in lines if line["logger"] == "uvicorn.access"]
    assert '"GET /seen HTTP/1.1" 204' in access
    assert "s3cret" not in stream.getvalue()
    assert any(line["logger"] == "uvicorn.error" for line in lines)


@pytest.mark.parametrize("target", ["/ws", "http://gateway.example/ws", "http%3A//gateway.example/ws", "*", ""])
def test_a_request_target_of_any_form_loses_its_query(target: str) -> None:
    _, stream = logged("console")
    for name in ("uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).info('%s - "WebSocket %s" %d', ("::1", 1), f"{target}?ticket=SECRETQ&again=?x", 403)
    assert stream.getvalue().count(f'"WebSocket {target}" 403') == 2
    assert "SECRETQ" not in stream.getvalue()
