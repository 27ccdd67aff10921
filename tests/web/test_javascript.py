"""The named endpoints through @gradio/client, Gradio's own client for JavaScript."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests import npm

VERSION = "2.7.0"
SCRIPT = """
import { Client } from "@gradio/client";
import { readFileSync } from "node:fs";

const [url, path] = process.argv.slice(2);
const app = await Client.connect(url);
const picture = new Blob([readFileSync(path)], { type: "image/jpeg" });
const made = await app.predict("/generate", { picture, format: "glb", size_mm: 40 });
const bytes = Buffer.from(await (await fetch(made.data[0].url)).arrayBuffer());
const cut = await app.predict("/cutout", { picture });
let refusal = "";
try {
  await app.predict("/generate", { picture, size_mm: 5000 });
} catch (error) {
  refusal = error.message;
}
const magic = bytes.toString("latin1", 0, 4);
console.log(JSON.stringify({ magic, report: made.data[1], info: cut.data[1], refusal }));
process.exit(0);
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A folder with the client installed."""
    folder = npm.install(tmp_path_factory.mktemp("javascript"), f"@gradio/client@{VERSION}")
    (folder / "call.js").write_text(SCRIPT)
    return folder


def test_the_javascript_client(package, url, photo):
    done = subprocess.run(
        ["node", "call.js", url, str(photo)], cwd=package, capture_output=True, text=True, timeout=120, check=True
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["magic"] == "glTF"
    assert answer["report"]["report"]["watertight"] is True
    assert answer["report"]["request"]["size_mm"] == 40
    assert answer["info"]["coverage"] > 0.1
    assert answer["refusal"] == "size_mm cannot be 5000: use a number from 1 to 1,000 millimetres."
