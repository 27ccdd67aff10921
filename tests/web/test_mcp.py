"""The endpoints as MCP tools, through MCP's own client. In an environment that has them: pip install "gradio[mcp]".

That holds pydantic back, so the requirements do not name it, and where it is missing this is skipped.
"""

from __future__ import annotations

import asyncio
from importlib.util import find_spec

import pytest

from orfeas.errors import BadRequest
from orfeas.settings import Settings
from orfeas.web.api import MEANINGS
from orfeas.web.serve import offers_mcp
from tests.web.conftest import upload

is_there = find_spec("mcp") is not None


def settings(tmp_path, mcp: str) -> Settings:
    return Settings(_env_file=None, data_dir=tmp_path, mcp=mcp)


def test_it_is_offered_where_it_can_be_and_not_promised_where_it_cannot(tmp_path):
    assert offers_mcp(settings(tmp_path, "auto")) is is_there
    assert offers_mcp(settings(tmp_path, "off")) is False
    if is_there:
        assert offers_mcp(settings(tmp_path, "on")) is True
    else:
        with pytest.raises(BadRequest, match=r'pip install "gradio\[mcp\]"'):
            offers_mcp(settings(tmp_path, "on"))


@pytest.mark.skipif(not is_there, reason='the package mcp is not installed: pip install "gradio[mcp]"')
def test_every_endpoint_is_a_tool(url, http, photo):
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    address = f"{url}/gradio_api/file={upload(http, photo)}"
    seen = []

    async def note(progress, total, message):
        seen.append(message)

    async def ask():
        async with (
            streamable_http_client(f"{url}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            options = {"picture": address, "quality": "draft"}
            made = await session.call_tool("generate", {**options, "size_mm": 40}, progress_callback=note)
            batch = await session.call_tool("batch", {"pictures": [address], "quality": "draft"})
            refused = await session.call_tool("generate", {**options, "size_mm": 4000})
            stranger = await session.call_tool("generate", {"picture": "http://127.0.0.1:1/etc/passwd"})
            return tools, made, batch, refused, stranger

    tools, made, batch, refused, stranger = asyncio.run(ask())
    assert set(tools) >= {"generate", "cutout", "batch", "best_of", "inspect", "repair"}
    generate = tools["generate"]
    assert generate.description.startswith("Make a solid, printable 3D model")
    for name, meaning in MEANINGS.items():
        assert meaning in str(generate.inputSchema["properties"][name]), name
    assert not made.isError
    text = " ".join(part.text for part in made.content if part.type == "text")
    assert "red-egg_40mm.stl" in text
    assert "watertight" in text
    assert any(seen)
    assert not batch.isError
    assert "models.zip" in " ".join(part.text for part in batch.content if part.type == "text")
    assert refused.isError
    assert "use a number from 1 to 1,000 millimetres." in refused.content[0].text
    assert stranger.isError
