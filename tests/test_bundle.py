from __future__ import annotations

import json
import zipfile

from orfeas.bundle import MANIFEST, Entry, unique_names, write_bundle
from orfeas.request import GenerationRequest
from tests.conftest import PacedEngine
from tests.web.conftest import photo  # noqa: F401 (a fixture)


def test_names_are_unique_whatever_their_case():
    names = unique_names(["a_1mm.stl", "A_1mm.stl", "a_1mm.stl", "a_1mm-2.stl", "b.stl"])
    assert names == ["a_1mm.stl", "A_1mm-2.stl", "a_1mm-3.stl", "a_1mm-2-2.stl", "b.stl"]


def test_a_bundle_has_the_models_as_they_are_and_says_what_failed(make_studio, photo, tmp_path):  # noqa: F811
    studio = make_studio(PacedEngine())
    results = [
        list(studio.run(GenerationRequest(photo, quality="draft", seed=seed), draw=False))[-1] for seed in (1, 2)
    ]
    path = tmp_path / "models.zip"
    entries = [Entry("a.jpg", results[0]), Entry("b.jpg", error="It is blank.", code="blank")]
    entries.append(Entry("c.jpg", results[1], facts={"rank": 1}))
    manifest = write_bundle(path, entries)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert json.loads(archive.read(MANIFEST)) == manifest
        assert archive.namelist() == [*(made["file"] for made in manifest["made"]), MANIFEST]
        for made, result in zip(manifest["made"], results, strict=True):
            assert archive.read(made["file"]) == result.files["model"].read_bytes()
    assert [made["picture"] for made in manifest["made"]] == ["a.jpg", "c.jpg"]
    assert manifest["made"][1]["rank"] == 1
    assert manifest["made"][0]["request"] == results[0].request.options()
    assert manifest["failed"] == [{"picture": "b.jpg", "error": "It is blank.", "code": "blank"}]
