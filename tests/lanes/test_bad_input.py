"""Every bad request is answered with what is wrong and what to do; none is recorded."""

import json
from typing import Any

import pytest

from routing.lanes.door import MAX_BODY_BYTES
from tests.lanes.stage import CHAT, HEADERS, ROUTE, SELECT, Heard, Stage

CODE = {"taskType": "code"}
ASK = {"taskType": "code", "prompt": "hi"}
TALK: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}


def told_field(heard: Heard) -> tuple[str, str, str]:
    """Return pointer, detail and remedy of the one field at fault, and check all around it."""
    assert (heard.status, heard.headers["content-type"]) == (400, "application/problem+json")
    problem = heard.json
    assert problem["type"] == f"urn:ai-orchestra:problem:{problem['code']}"
    assert problem["status"] == 400
    assert problem["title"]
    (field,) = problem["errors"]
    assert field["detail"] in problem["detail"]
    return field["pointer"], field["detail"], field.get("remedy", "")


WRONG_FIELDS: list[tuple[Any, str, str, str]] = [
    ({}, "/taskType", "required", "Add 'taskType'."),
    ({"taskType": "cod"}, "/taskType", "Invalid enum value", "Use one of: analysis, code"),
    ({"taskType": None}, "/taskType", "Expected `str`, got `null`", "Use one of"),
    ({"taskType": 3}, "/taskType", "Expected `str`, got `int`", "Use one of"),
    ({**CODE, "requirement": {}}, "/requirement", "Unknown field", "Did you mean 'requirements'?"),
    ({**CODE, "x": {}}, "/x", "Unknown field", "Known fields: taskType"),
    ({**CODE, "requirements": []}, "/requirements", "got `array`", "Correct its type"),
    (
        {**CODE, "requirements": {"maxToken": 1}},
        "/requirements/maxToken",
        "Unknown field",
        "Did you mean 'maxTokens'?",
    ),
    ({**CODE, "requirements": {"a/b~c": 1}}, "/requirements/a~1b~0c", "Unknown field", "Known"),
    ({**CODE, "requirements": {"maxTokens": 0}}, "/requirements/maxTokens", "too small", "1 to "),
    ({**CODE, "requirements": {"maxTokens": "5"}}, "/requirements/maxTokens", "got `str`", "1 to"),
    ({**CODE, "requirements": {"maxTokens": 1.5}}, "/requirements/maxTokens", "`float`", "1 to"),
    ({**CODE, "requirements": {"maxTokens": True}}, "/requirements/maxTokens", "`bool`", "1 to"),
    ({**CODE, "requirements": {"maxTokens": 10**30}}, "/requirements/maxTokens", "large", "1 to"),
    ({**CODE, "requirements": {"costLimit": -1}}, "/requirements/costLimit", "small", "Use 0 to"),
    ({**CODE, "requirements": {"priority": "urgent"}}, "/requirements/priority", "enum", "low, "),
    ({**CODE, "requirements": {"complexity": ""}}, "/requirements/complexity", "enum", "simple"),
    ({**CODE, "explain": "yes"}, "/explain", "Expected `bool`", "Correct its type"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "pointer", "detail", "remedy"), WRONG_FIELDS)
@pytest.mark.parametrize("path", [SELECT, ROUTE])
async def test_the_field_and_the_remedy_are_named(
    quiet_stage: Stage, path: str, body: dict[str, Any], pointer: str, detail: str, remedy: str
) -> None:
    heard = await quiet_stage.post(path, body if path == SELECT else {"prompt": "hi", **body})
    told = told_field(heard)
    assert told[0] == pointer
    assert detail in told[1]
    assert remedy in told[2]
    assert quiet_stage.records() == []


@pytest.mark.parametrize(
    ("body", "pointer", "detail", "remedy"),
    [
        (CODE, "/prompt", "required", "Add 'prompt'."),
        ({**ASK, "prompt": ""}, "/prompt", "The text is too short", "Use at least 1 in length."),
        ({**ASK, "prompt": ["hi"]}, "/prompt", "got `array`", ""),
        ({**ASK, "retryAttempts": -1}, "/retryAttempts", "too small", "Use 0 to 20."),
        ({**ASK, "retryAttempts": 21}, "/retryAttempts", "too large", "0 to 20"),
        ({**ASK, "requirements": {"temperature": 3}}, "/requirements/temperature", "large", "to 2"),
        ({**ASK, "promt": "x"}, "/promt", "Unknown field", "Did you mean 'prompt'?"),
    ],
)  # fmt: skip
async def test_the_fields_of_route_request(
    quiet_stage: Stage, body: dict[str, Any], pointer: str, detail: str, remedy: str
) -> None:
    told = told_field(await quiet_stage.post(ROUTE, body))
    assert told[0] == pointer
    assert detail in told[1]
    assert remedy in told[2]


NOT_JSON = [
    b"",
    b" ",
    b"{",
    b"{'taskType': 'code'}",
    b'{"taskType": "co\xff"}',
    b'\xff\xfe{\x00"\x00',
    b'\xef\xbb\xbf{"taskType": "code"}',
    b'{"taskType": "\\ud800"}',
    b'{"taskType": "\\ud800\\u0041"}',
    b'{"taskType": "code", "requirements": {"maxTokens": NaN}}',
    b"<html></html>",
    b"taskType=code",
]


@pytest.mark.parametrize("path", [SELECT, ROUTE])
@pytest.mark.parametrize("raw", NOT_JSON)
async def test_what_is_not_json_is_called_that(quiet_stage: Stage, path: str, raw: bytes) -> None:
    heard = await quiet_stage.send(path, raw)
    assert told_field(heard)[0] == ""
    assert heard.json["code"] == "invalid_json"


@pytest.mark.parametrize("path", [SELECT, ROUTE, CHAT])
@pytest.mark.parametrize("raw", [b"null", b"[]", b'"text"', b"7", b"true", b"9" * 5000, b"1e999"])
async def test_what_is_no_object_is_refused(quiet_stage: Stage, path: str, raw: bytes) -> None:
    heard = await quiet_stage.send(path, raw)
    assert heard.status == 400
    assert quiet_stage.records() == []


@pytest.mark.parametrize("path", [SELECT, ROUTE, CHAT])
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"taskType":"code","requirements":['])
async def test_no_depth_of_nesting_is_a_fault_of_ours(
    quiet_stage: Stage, path: str, opening: bytes
) -> None:
    assert (await quiet_stage.send(path, opening * 20_000)).status == 400


async def test_a_field_given_twice_counts_as_said_last(quiet_stage: Stage) -> None:
    heard = await quiet_stage.send(SELECT, b'{"taskType":"code","taskType":"embedding"}')
    assert heard.json["selectedModel"] == "embed"


async def test_any_text_is_a_prompt(quiet_stage: Stage) -> None:
    for prompt in ("\x00", "\u2028 \U0001f600", '"}', "{{7*7}}", "x" * 100_000):
        heard = await quiet_stage.post(ROUTE, {**ASK, "prompt": prompt, "retryAttempts": 0})
        assert heard.status in (422, 502)  # nobody serves these models


class TestHead:
    """What the headers say is checked before anything is read."""

    @pytest.mark.parametrize("path", [SELECT, ROUTE, CHAT])
    @pytest.mark.parametrize(
        "kind",
        [
            None,
            b"text/plain",
            b"application/x-www-form-urlencoded",
            b"multipart/form-data",
            b"json",
        ],
    )
    async def test_a_body_not_declared_as_json_is_415(
        self, quiet_stage: Stage, path: str, kind: bytes | None
    ) -> None:
        headers = [HEADERS[0]] + ([(b"content-type", kind)] if kind else [])
        heard = await quiet_stage.send(path, b"{}", headers=headers)
        assert heard.status == 415
        assert b"Content-Type: application/json" in heard.body

    @pytest.mark.parametrize(
        "kind",
        [b"application/json; charset=utf-8", b"APPLICATION/JSON", b"application/vnd.api+json"],
    )
    async def test_any_spelling_of_json_is_taken(self, quiet_stage: Stage, kind: bytes) -> None:
        headers = [HEADERS[0], (b"content-type", kind)]
        assert (
            await quiet_stage.send(SELECT, b'{"taskType":"code"}', headers=headers)
        ).status == 200

    @pytest.mark.parametrize("host", [b"", b"evil.example", b"localhost.evil.example", b"\xff"])
    async def test_a_host_not_ours_is_refused(self, quiet_stage: Stage, host: bytes) -> None:
        heard = await quiet_stage.send(SELECT, b"{}", headers=[(b"host", host), HEADERS[1]])
        assert (heard.status, heard.json["code"]) == (400, "host_not_allowed")
        assert "ORCHESTRA_ALLOWED_HOSTS" in heard.json["detail"]

    @pytest.mark.parametrize("length", [str(MAX_BODY_BYTES + 1), "9" * 5000])
    async def test_a_body_announced_as_too_large_is_not_read(
        self, quiet_stage: Stage, length: str
    ) -> None:
        heard = await quiet_stage.send(
            ROUTE, b"{}", headers=[*HEADERS, (b"content-length", length.encode())]
        )
        assert (heard.status, heard.json["code"]) == (413, "body_too_large")
        assert "16 MiB" in heard.json["detail"]

    @pytest.mark.parametrize("parts", [1, 20])
    async def test_a_body_that_grows_too_large_is_cut_off(
        self, quiet_stage: Stage, parts: int
    ) -> None:
        size = MAX_BODY_BYTES // parts + 1
        heard = await quiet_stage.send(ROUTE, *([b"x" * size] * parts))
        assert heard.status == 413

    async def test_a_body_may_come_in_parts(self, quiet_stage: Stage) -> None:
        parts = [bytes([byte]) for byte in json.dumps(CODE).encode()]
        assert (await quiet_stage.send(SELECT, *parts, b"")).status == 200


def error_of(heard: Heard) -> dict[str, Any]:
    assert heard.headers["content-type"] == "application/json"
    assert heard.json.keys() == {"error"}
    assert heard.json["error"].keys() == {"message", "type", "param", "code"}
    error: dict[str, Any] = heard.json["error"]
    return error


def says(*content: Any) -> dict[str, Any]:
    """Return a change to a chat: one message made of these parts."""
    return {"messages": [{"role": "user", "content": list(content)}]}


def called(function: Any) -> dict[str, Any]:
    """Return a change to a chat: an answer that called this function."""
    return {"messages": [{"role": "assistant", "tool_calls": [{"function": function}]}]}


SCHEMA = {"type": "json_schema", "json_schema": "x"}
WRONG_CHATS: list[tuple[dict[str, Any], str]] = [
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": ["hi"]}, "messages.0"),
    ({"messages": [*TALK["messages"], {"role": "robot"}]}, "messages.1.role"),
    ({"messages": [{"content": "x"}]}, "messages.0.role"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
    (says({"type": "text", "text": 5}), "messages.0.content.0.text"),
    (says({"text": "x"}), "messages.0.content.0.type"),
    (says({"type": "image_url", "image_url": {}}), "messages.0.content.0.image_url.url"),
    (called("f"), "messages.0.tool_calls.0.function"),
    (called({"name": "f", "arguments": {}}), "messages.0.tool_calls.0.function.arguments"),
    ({"model": ""}, "model"),
    ({"model": 5}, "model"),
    ({"model": "auto:poetry"}, "model"),
    ({"model": "auto:embedding"}, "model"),
    ({"temperature": 3}, "temperature"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_completion_tokens": "many"}, "max_completion_tokens"),
    ({"n": 2}, "n"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": True}, "stream_options"),
    ({"tools": {}}, "tools"),
    ({"response_format": "json"}, "response_format"),
    ({"response_format": SCHEMA}, "response_format.json_schema"),
]


@pytest.mark.parametrize(("change", "param"), WRONG_CHATS)
async def test_the_openai_lane_names_the_parameter(
    quiet_stage: Stage, change: dict[str, Any], param: str
) -> None:
    heard = await quiet_stage.post(CHAT, {**TALK, **change})
    assert heard.status == 400
    error = error_of(heard)
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_request")
    assert error["param"] == param
    assert quiet_stage.records() == []


@pytest.mark.parametrize("missing", ["model", "messages"])
async def test_the_openai_lane_names_what_is_missing(quiet_stage: Stage, missing: str) -> None:
    heard = await quiet_stage.post(CHAT, {k: v for k, v in TALK.items() if k != missing})
    assert error_of(heard)["param"] == missing


async def test_an_unknown_model_is_404_with_the_nearest(quiet_stage: Stage) -> None:
    heard = await quiet_stage.post(CHAT, {**TALK, "model": "codr"})
    error = error_of(heard)
    assert (heard.status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "Did you mean 'coder'?" in error["message"]


async def test_parameters_of_other_dialects_do_no_harm(quiet_stage: Stage) -> None:
    heard = await quiet_stage.post(CHAT, {**TALK, "keep_alive": 5, "metadata": {"a": [1]}})
    assert heard.status == 502  # nobody serves these models
