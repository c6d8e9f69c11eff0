"""Static files are served from the installed packages, to both kinds of server."""

import pytest
from django.test import AsyncClient, Client

STYLES = "/static/unfold/css/styles.css"


async def test_a_file_is_served_without_a_warning(async_client: AsyncClient) -> None:
    response = await async_client.get(STYLES)
    assert (response.status_code, response["Content-Type"]) == (200, 'text/css; charset="utf-8"')
    assert len(response.content) == int(response["Content-Length"])
    assert not response.streaming


def test_a_file_is_served_to_synchronous_servers(client: Client) -> None:
    assert client.get(STYLES).status_code == 200


async def test_a_file_that_is_known_is_not_sent_again(async_client: AsyncClient) -> None:
    tag = (await async_client.get(STYLES))["ETag"]
    response = await async_client.get(STYLES, headers={"if-none-match": tag})
    assert (response.status_code, response.content) == (304, b"")


async def test_a_part_of_a_file_may_be_asked_for(async_client: AsyncClient) -> None:
    response = await async_client.get(STYLES, headers={"range": "bytes=0-9"})
    assert (response.status_code, len(response.content)) == (206, 10)


async def test_a_file_may_be_asked_about(async_client: AsyncClient) -> None:
    response = await async_client.head(STYLES)
    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize("path", ["unfold/css/../../../settings.py", "no/such.css", "%00", ""])
async def test_nothing_else_is_served(async_client: AsyncClient, path: str) -> None:
    assert (await async_client.get(f"/static/{path}")).status_code == 404
