import numpy as np
import pytest
import torch
from skimage import measure

from orfeas.engines.hunyuan3d.marching_cubes_tables import EDGE_CORNERS, FACE_CORNERS, build_tables
from orfeas.engines.hunyuan3d.surface import MARGIN, extract_surface, refine_surface
from orfeas.engines.hunyuan3d.volume import HALF_EXTENT, DenseVolume, dense, hierarchical
from orfeas.mesh import signed_volume
from tests.engines.hunyuan3d import fields
from tests.engines.hunyuan3d.fields import drain


def surface_of(values):
    cells = values.shape[0] - 1
    return extract_surface(DenseVolume(cells, HALF_EXTENT, values.flatten()).surface_cells())


def volume_and_area(vertices, faces):
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return signed_volume(vertices, faces), np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2


def assert_closed_manifold(surface):
    """Each edge is walked once in either direction, and the faces around each vertex form one fan."""
    faces = surface.faces.numpy()
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    forward = edges[:, 0] * len(surface.vertices) + edges[:, 1]
    backward = edges[:, 1] * len(surface.vertices) + edges[:, 0]
    assert len(np.unique(forward)) == len(forward)
    np.testing.assert_array_equal(np.sort(forward), np.sort(backward))
    # In the fan of a vertex each face leads from one neighbour to the next: one cycle means one fan.
    corner = faces.ravel()
    before, after = np.roll(faces, 1, axis=1).ravel(), np.roll(faces, -1, axis=1).ravel()
    following = dict(zip(zip(corner.tolist(), after.tolist(), strict=True), before.tolist(), strict=True))
    degree = np.bincount(corner, minlength=len(surface.vertices))
    assert degree.min() >= 3
    first = dict(zip(corner.tolist(), after.tolist(), strict=True))
    for vertex, start in first.items():
        here, length = start, 0
        while True:
            here, length = following[vertex, here], length + 1
            if here == start:
                break
        assert length == degree[vertex]


@pytest.mark.parametrize("seed", range(3))
def test_noise_gives_a_closed_manifold(seed):
    values = torch.randn((9, 9, 9), generator=torch.Generator().manual_seed(seed))
    surface = surface_of(values)
    assert len(surface.centre_vertices) > 0  # the rare cells are among them
    assert_closed_manifold(surface)
    assert signed_volume(surface.vertices.numpy(), surface.faces.numpy()) > 0


def test_two_valued_noise_gives_a_closed_manifold():
    """All ambiguous faces are ties here."""
    values = torch.where(torch.rand((10, 10, 10), generator=torch.Generator().manual_seed(7)) > 0.5, 1.0, -1.0)
    assert_closed_manifold(surface_of(values))


def test_zeros_give_a_closed_manifold_without_degenerate_faces():
    values = torch.randint(-1, 2, (10, 10, 10), generator=torch.Generator().manual_seed(3)).float()
    surface = surface_of(values)
    assert_closed_manifold(surface)
    vertices, faces = surface.vertices.numpy(), surface.faces.numpy()
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    assert np.linalg.norm(np.cross(b - a, c - a), axis=1).min() > 0


def test_every_pattern_has_a_filling_that_leaves_no_edge_on_a_face_open():
    tables = build_tables()
    face_of = {
        edge: {f for f in range(6) if set(pair) <= set(FACE_CORNERS[f])} for edge, pair in enumerate(EDGE_CORNERS)
    }
    for pattern in range(256):
        crossed = {e for e, (a, b) in enumerate(EDGE_CORNERS) if (pattern >> a & 1) != (pattern >> b & 1)}
        for choice in range(64):
            if choice & ~int(tables.ambiguous[pattern]):
                continue
            row = tables.row[pattern, choice]
            triangles = tables.triangles[tables.first[row] : tables.first[row] + tables.count[row]].tolist()
            assert {v for t in triangles for v in t} - {12} == crossed
            edges = [(t[k], t[(k + 1) % 3]) for t in triangles for k in range(3)]
            assert len(set(edges)) == len(edges)
            open_edges = [edge for edge in edges if edge[::-1] not in edges]
            # Open edges are exactly the cuts of the faces: one a crossing vertex, each within a face of the cell.
            assert len(open_edges) == len(crossed)
            assert all(face_of[a] & face_of[b] for a, b in open_edges)
            for a, b in edges:
                if (a, b) not in open_edges and 12 not in (a, b):
                    assert not face_of[a] & face_of[b]


def test_shared_faces_are_cut_alike_from_both_sides():
    """The asymptotic decider: the positive corners are joined where their product is the larger one."""
    values = torch.full((4, 4, 4), -1.0)
    values[1, 1, 1] = values[1, 2, 2] = 3.0  # diagonal on one face of two cells: 9 > 1, joined
    joined = surface_of(values)
    values[1, 1, 1] = values[1, 2, 2] = 0.5  # 0.25 < 1, apart
    apart = surface_of(values)
    for surface, bodies in ((joined, 1), (apart, 2)):
        assert_closed_manifold(surface)
        euler = len(surface.vertices) - len(surface.faces) // 2
        assert euler == 2 * bodies


@pytest.mark.parametrize("name", ["sphere", "torus", "gyroid", "plate"])
def test_volume_and_area_agree_with_skimage(name):
    _, volume = drain(dense(getattr(fields, name), 64))
    surface = extract_surface(volume.surface_cells())
    ours = volume_and_area(surface.vertices.numpy(), surface.faces.numpy())
    points, faces, _, _ = measure.marching_cubes(volume.to_dense()[0].numpy(), 0.0)
    theirs = volume_and_area(points.astype(float) / 64 * 2 * HALF_EXTENT - HALF_EXTENT, faces[:, ::-1])
    assert ours[0] == pytest.approx(abs(theirs[0]), rel=2e-3)
    assert ours[1] == pytest.approx(theirs[1], rel=2e-3)


def test_positions_are_true_and_triangles_face_outwards():
    """The sphere at (0.2, 0, 0) of radius 0.5 has its true bounds: R cells, not R + 1, span the box."""
    _, volume = drain(dense(lambda points: fields.sphere(points, 0.5, (0.2, 0.0, 0.0)), 32))
    surface = extract_surface(volume.surface_cells())
    vertices, faces = surface.vertices.numpy(), surface.faces.numpy()
    np.testing.assert_allclose(vertices.min(0), (-0.3, -0.5, -0.5), atol=2e-3)
    np.testing.assert_allclose(vertices.max(0), (0.7, 0.5, 0.5), atol=2e-3)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    outward = (a + b + c) / 3 - (0.2, 0.0, 0.0)
    assert (np.einsum("ij,ij->i", np.cross(b - a, c - a), outward) > 0).all()
    assert signed_volume(vertices, faces) == pytest.approx(4 / 3 * np.pi * 0.125, rel=0.01)


def test_shape_that_leaves_the_box_is_closed_half_a_cell_beyond_it():
    _, volume = drain(hierarchical(fields.cylinder, 64, coarsest=16))
    surface = extract_surface(volume.surface_cells())
    assert_closed_manifold(surface)
    half_cell = HALF_EXTENT / 64
    assert surface.vertices[:, 1].max() == pytest.approx(HALF_EXTENT + half_cell)
    assert surface.vertices[:, 1].min() == pytest.approx(-HALF_EXTENT - half_cell)
    expected = np.pi * 0.25 * 2 * (HALF_EXTENT + half_cell)
    assert signed_volume(surface.vertices.numpy(), surface.faces.numpy()) == pytest.approx(expected, rel=0.01)


def test_the_same_volume_gives_the_same_mesh_and_vertices_are_shared():
    _, volume = drain(hierarchical(fields.gyroid, 64, coarsest=16))
    first, second = (extract_surface(volume.surface_cells()) for _ in range(2))
    assert torch.equal(first.faces, second.faces)
    assert torch.equal(first.vertices, second.vertices)
    assert len(torch.unique(first.vertices, dim=0)) == len(first.vertices) == int(first.faces.max()) + 1


def test_nothing_gives_an_empty_mesh():
    surface = surface_of(torch.full((5, 5, 5), -1.0))
    assert surface.faces.shape == (0, 3)
    assert surface.vertices.shape == (0, 3)


@pytest.mark.parametrize("field", [fields.sphere, fields.saturated])
def test_refining_brings_vertices_tenfold_closer_to_the_field(field):
    _, volume = drain(hierarchical(field, 32, coarsest=16))
    surface = extract_surface(volume.surface_cells())
    sizes = []

    def counted(points):
        sizes.append(len(points))
        return field(points)

    yielded, _ = drain(refine_surface(surface, counted, chunk=1000))
    refined = yielded[-1][1]
    assert yielded[-1][0] == 1.0
    assert max(sizes) <= 1000
    assert sum(sizes) == 2 * len(surface.vertices)
    before, after = ((mesh.vertices.norm(dim=1) - 0.6).abs().max() for mesh in (surface, refined))
    assert after < before / 10
    assert torch.equal(refined.faces, surface.faces)
    moved = (refined.t - surface.t).abs()
    assert moved.max() < 1.0
    assert refined.t.min() >= MARGIN
    assert refined.t.max() <= 1 - MARGIN


def test_refining_leaves_the_closing_cap_alone():
    _, volume = drain(dense(fields.cylinder, 32))
    surface = extract_surface(volume.surface_cells())
    yielded, _ = drain(refine_surface(surface, fields.cylinder, chunk=4096))
    refined = yielded[-1][1]
    cap = (surface.vertices.abs() > HALF_EXTENT).any(1)
    assert cap.any()
    assert torch.equal(refined.vertices[cap], surface.vertices[cap])
    wall = refined.vertices[~cap]
    assert (wall[:, [0, 2]].norm(dim=1) - 0.5).abs().max() < 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_gives_the_same_mesh():
    values = torch.randn((40, 40, 40), generator=torch.Generator().manual_seed(0))
    here, there = surface_of(values), surface_of(values.cuda())
    assert torch.equal(here.faces, there.faces.cpu())
    assert torch.equal(here.vertices, there.vertices.cpu())
