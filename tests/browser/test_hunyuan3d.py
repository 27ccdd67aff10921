"""The page around Hunyuan3D, on a CPU with a tiny network of random weights."""

from __future__ import annotations

import trimesh

from tests.web.test_hunyuan3d import QUALITIES, hunyuan3d  # noqa: F401 (a fixture)


def test_generate_shows_the_diffusion_and_then_the_model(visit, hunyuan3d, photo):  # noqa: F811
    visit = visit(hunyuan3d.url)
    page = visit.page
    header = page.inner_text("header.top")
    assert "Hunyuan3D-2.1" in header
    assert "ORFEAS_ENGINE=hunyuan3d" in header
    visit.choose(photo)
    page.locator("#quality").get_by_text("Standard").click()
    visit.generate()
    # at one moment: the tiny model's steps are over in the next
    stage = "document.body.innerText.includes('Diffusion step') ? document.querySelector('.stages li.now') : null"
    assert page.wait_for_function(f"({stage})?.dataset.stage", timeout=90_000).json_value() == "shape"
    page.click("#stop")
    visit.wait_for_state("cancelled")

    page.locator("#quality").get_by_text("Draft").click()
    visit.generate()
    visit.wait_for_state("done", seconds=120)
    visit.wait_for_canvas()
    with page.expect_download() as download:
        page.click("a.download.first")
    model = trimesh.load(download.value.path(), file_type="stl")
    assert model.is_watertight
    assert len(model.faces) <= QUALITIES["draft"].faces
