import os
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from orfeas.engines.sketch import learned
from orfeas.engines.sketch.train import families, household, outdoors, photo, solids, workpieces
from orfeas.engines.sketch.train.__main__ import build_parser, main
from orfeas.engines.sketch.train.assembly import MATERIALS, Assembly
from orfeas.engines.sketch.train.dataset import SHARD, VALIDATION, Shards, make_batch, pack, relight, write_shard
from orfeas.engines.sketch.train.export import to_onnx
from orfeas.engines.sketch.train.feed import Feed, tensors
from orfeas.engines.sketch.train.fit import WEIGHTS, Trainer, _union, losses, unpack
from orfeas.engines.sketch.train.optimize import orthogonalize
from orfeas.engines.sketch.train.restore import restore, weights_of
from orfeas.engines.sketch.train.sample import LAYERS, Z_START, draw_sample
from orfeas.engines.sketch.train.scan import depth_maps, occupancy, scan, unseen
from orfeas.engines.sketch.train.scoring import look_at, mean_bend, score
from orfeas.errors import BadWeights
from orfeas.mesh import Mesh, signed_volume

SEEDS = range(24)


@pytest.fixture(scope="module")
def samples():
    return [draw_sample((5, seed)) for seed in SEEDS]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def edges_match(solid: solids.Solid) -> bool:
    """Every directed edge between places has its opposite: closed and wound one way (poles are many vertices)."""
    place = np.unique(np.round(solid.vertices, 6), axis=0, return_inverse=True)[1].reshape(-1)
    faces = place[solid.faces]
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = edges[edges[:, 0] != edges[:, 1]]
    return np.array_equal(np.unique(edges, axis=0), np.unique(edges[:, ::-1], axis=0))


@pytest.mark.parametrize(
    ("solid", "volume"),
    [
        (solids.BOX, 8.0),
        (solids.superquadric(rows=41, sides=60), 4.19),
        (solids.cylinder(60), 6.28),
        (solids.cylinder(60, 0.0), 2.09),
        (solids.ring(0.25, 60), 2 * np.pi**2 * 0.75 * 0.25**2),
        (solids.plate(np.ones(60), 0.5), np.pi),
        (solids.GABLE, 2.0),
    ],
)
def test_solids_are_closed_and_as_large_as_they_should(solid, volume):
    assert edges_match(solid)
    # the ring's tube has ten sides, which takes 6 % off its cross section
    assert signed_volume(solid.vertices, solid.faces) == pytest.approx(volume, rel=0.07)


def test_lumps_of_facets_are_closed_and_fill_their_box():
    for seed in range(20):
        solid = solids.faceted(np.random.default_rng(seed))
        assert edges_match(solid)
        np.testing.assert_allclose([solid.vertices.min(0), solid.vertices.max(0)], [[-1] * 3, [1] * 3], atol=1e-12)
        assert 1.5 < signed_volume(solid.vertices, solid.faces) < 8


def seen_normals(solid: solids.Solid, turned: np.ndarray, creased: float) -> tuple[np.ndarray, np.ndarray]:
    """A solid as `photo.render` shows it: colours and normals of the pixels that it covers."""
    points = solid.vertices @ turned.T * 0.25
    seen = scan(points, solid.faces, 64, only_facing=True)
    material = np.zeros(len(solid.faces), np.int64)
    image, normals = photo.render(
        seen, points, solid.faces, material, solid.vertices, np.random.default_rng(11), creased
    )
    covered = image[..., 3] > 0
    return image[covered][:, :3], normals[covered]


def test_flat_sides_have_one_normal_each_and_round_ones_turn():
    turned = solids.turn(y=0.6, x=0.3)
    for creased in (0.0, 1.0):
        _, normals = seen_normals(solids.BOX, turned, creased)
        assert len(np.unique(normals.round(5), axis=0)) == 3
        np.testing.assert_allclose(np.abs(normals @ turned).max(1), 1, atol=1e-6)  # those of its faces
    _, normals = seen_normals(solids.cylinder(20), turned, 1.0)
    local = normals @ turned
    side = np.abs(local[:, 1]) < 0.5
    # between the facets, 18 degrees apart, it turns; the edge to the top stays sharp
    np.testing.assert_allclose(local[side, 1], 0, atol=1e-6)
    np.testing.assert_allclose(local[~side], [(0, 1, 0)] * np.count_nonzero(~side), atol=1e-6)
    angles = np.sort(np.arctan2(local[side, 0], local[side, 2]))
    assert np.diff(angles).max() < np.radians(9)


def test_simple_pictures_shade_flat_sides_and_creased_ones_do_not(monkeypatch):
    monkeypatch.setattr(photo, "_openness", lambda *arguments: 1.0)  # darker where one side shades another
    turned = solids.turn(y=0.6, x=0.3)
    spreads = []
    for creased in (0.0, 1.0):
        image, normals = seen_normals(solids.BOX, turned, creased)
        side = image[normals[:, 2] == normals[:, 2].max()].mean(1)
        spreads.append(np.ptp(side) / side.mean())
    assert spreads[0] > 0.1
    assert spreads[1] < 1e-3


@pytest.mark.parametrize("family", [*families.TRAINING, *families.HELD_OUT], ids=lambda family: family.__name__)
def test_families_make_outward_solids(family):
    for seed in range(6):
        assembly = Assembly(np.random.default_rng(seed))
        family(assembly)
        for solid, material in assembly.parts:
            assert np.isfinite(solid.vertices).all()
            assert signed_volume(solid.vertices, solid.faces) > 0
            assert 0 <= material < MATERIALS


def test_held_out_families_are_not_trained_on():
    assert not set(families.TRAINING) & set(families.HELD_OUT)


def test_samples_are_drawn_alike_from_the_same_seed(samples):
    again = draw_sample((5, SEEDS[3]))
    for name in ("rgba", "prior", "front", "back", "normals", "solid"):
        np.testing.assert_array_equal(getattr(again, name), getattr(samples[3], name))
    assert not np.array_equal(samples[3].rgba, samples[4].rgba)


def test_truth_is_aligned_with_the_picture(samples):
    z = Z_START + (np.arange(LAYERS) + 0.5) / learned.GRID
    overlaps = []
    for sample in samples:
        mask = np.isfinite(sample.front)
        np.testing.assert_array_equal(sample.solid.any(axis=0), mask)  # the silhouette of the volume is the mask
        assert (sample.front[mask] >= sample.back[mask]).all()
        top = z[LAYERS - 1 - sample.solid[::-1].argmax(axis=0)]
        within = mask & (sample.front < z[-1])
        # a sheet thinner than a voxel may lie between two voxels' centres: then what is behind it is the top
        assert np.mean(np.abs(top - sample.front)[within] > 1.01 / learned.GRID) < 0.08
        seen = sample.rgba[::2, ::2, 3] > 127
        overlaps.append((seen & mask).sum() / (seen | mask).sum())
        assert np.median((sample.prior - sample.front)[mask & (sample.prior > 0)]) == pytest.approx(0, abs=1e-6)
    assert np.mean(overlaps) > 0.85  # the cut-outs are wrong by a pixel or so, on purpose
    assert {sample.distance == np.inf for sample in samples} == {True, False}


def test_winding_numbers_fill_unions_and_leave_hollows():
    left, right = (solids.BOX.vertices * 0.2 + (x, 0, 0) for x in (-0.1, 0.1))
    both = np.concatenate([left, right]), np.concatenate([solids.BOX.faces, solids.BOX.faces + 8])
    fragments = scan(*both, 64)
    solid = occupancy(fragments, -0.5, 64, *depth_maps(fragments))
    assert solid.sum() / 64**3 == pytest.approx(0.6 * 0.4 * 0.4, rel=0.03)  # the overlap counts once
    tub = solids.lathe(solids.hollow(np.array([[0, -1], [1, -1], [1, 1], [0, 1]], float), 0.2, -0.8), 40)
    fragments = scan(tub.vertices * 0.4, tub.faces, 64)
    solid = occupancy(fragments, -0.5, 64, *depth_maps(fragments))
    assert not solid[32, 20, 32]  # inside, above the floor
    assert solid[32, 56, 32]  # in the floor


def test_shards_come_back_and_batches_mirror(tmp_path, samples):
    assert SHARD > 3
    path = write_shard(tmp_path, 7, 3)
    write_shard(tmp_path, VALIDATION, 2)
    assert write_shard(tmp_path, 7, 3) == path
    shards, held_out = Shards(tmp_path), Shards(tmp_path, held_out=True)
    assert (len(shards), len(held_out)) == (3, 2)
    first = draw_sample((7, 0))
    np.testing.assert_array_equal(np.unpackbits(shards.row(0)["solid"], axis=-1), first.solid)
    packed = pack(samples[:1])
    row = {name: values[0] for name, values in packed.items()}
    mirrored = {**row, "rgba": row["rgba"][:, ::-1]}
    for name in ("prior", "front", "back"):
        mirrored[name] = row[name][:, ::-1]
    for name, axis in (("normals", 1), ("solid", 2)):
        values = np.unpackbits(row[name], axis=-1) if name == "solid" else row[name] * np.array([-1, 1, 1], np.int8)
        mirrored[name] = np.flip(values, axis)
    mirrored["solid"] = np.packbits(mirrored["solid"], axis=-1)
    plain, other = make_batch([row], None), make_batch([mirrored], None)
    there, here = (np.unpackbits(batch.solid, axis=-1) for batch in (other, plain))
    np.testing.assert_array_equal(there, here[..., ::-1])
    np.testing.assert_allclose(other.inputs[:, 16:18], plain.inputs[:, 16:18, :, ::-1], atol=1e-6)
    np.testing.assert_array_equal(other.normals[:, 0], -plain.normals[:, 0, :, ::-1])


def test_mirrored_batches_have_mirrored_truth(samples):
    row = {name: values[0] for name, values in pack(samples[:1]).items()}
    plain = np.unpackbits(make_batch([row], None).solid, axis=-1)
    seeds = [seed for seed in range(40) if not np.array_equal(_drawn(row, seed), plain)]
    assert 5 < len(seeds) < 35
    for seed in seeds:
        np.testing.assert_array_equal(_drawn(row, seed), plain[..., ::-1])


def _drawn(row: dict[str, np.ndarray], seed: int) -> np.ndarray:
    return np.unpackbits(make_batch([row], np.random.default_rng(seed)).solid, axis=-1)


def test_lamps_and_reflections_follow_the_normal_and_stay_on_the_object():
    x, y = np.meshgrid(*[(np.arange(learned.GRID) + 0.5) / learned.GRID * 2.5 - 1.25] * 2)
    depth = np.sqrt((1 - x**2 - y**2).clip(0))
    ball = np.stack([x, -y, depth], -1) * (depth > 0)[..., None]
    wall = np.array([0, 0, 1]) * (depth > 0)[..., None]
    ball, wall = (np.round(normals * 127).astype(np.int8) for normals in (ball, wall))
    grey, ring = np.full((128, 128, 3), 120, np.uint8), np.zeros((128, 128), np.uint8)
    within, around = (cv2.circle(ring.copy(), (64, 64), radius, 1, -1) > 0 for radius in (46, 54))
    shone = 0
    for seed in range(40):
        on_ball, on_wall = (relight(grey, normals, np.random.default_rng(seed)) for normals in (ball, wall))
        assert (on_ball[~around] == 120).all()
        assert (on_wall[~around] == 120).all()
        assert np.ptp(on_wall[within].astype(int), axis=0).max() <= 1, "one normal, one light"
        shone += np.ptp(on_ball[within].astype(int), axis=0).max() > 20
    assert 20 < shone < 40


def test_learning_lowers_the_loss_and_resumes(tmp_path, samples):
    batch = tensors(make_batch([{k: v[0] for k, v in pack([s]).items()} for s in samples[:2]], None))
    trainer = Trainer(seed=1, budget_seconds=100)
    first = trainer.learn(batch)
    trainer.save(tmp_path / "checkpoint.pt")
    second = trainer.learn(batch)
    for _ in range(5):
        last = trainer.learn(batch)
    assert total(last) < total(first)
    assert last["union"] < first["union"]
    resumed = Trainer.load(tmp_path / "checkpoint.pt")
    assert resumed.step == 1
    assert resumed.learn(batch) == pytest.approx(second, rel=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_learns_as_the_processor_does_and_each_goes_on_for_the_other(tmp_path, samples):
    batch = tensors(make_batch([{k: v[0] for k, v in pack([s]).items()} for s in samples], None))
    there, here = Trainer(seed=1, budget_seconds=100, device="cuda"), Trainer(seed=1, budget_seconds=100)
    first = there.learn(batch), here.learn(batch)
    assert first[0] == pytest.approx(first[1], rel=0.02)
    for trainer, other in ((there, "cpu"), (here, "cuda")):
        trainer.save(tmp_path / "checkpoint.pt")
        resumed = Trainer.load(tmp_path / "checkpoint.pt", other)
        assert total(resumed.learn(batch)) == pytest.approx(total(trainer.learn(batch)), rel=0.02)


def test_batches_are_the_same_from_one_process_or_two_and_differ(tmp_path):
    write_shard(tmp_path, 7, 4)
    found = []
    for processes in (1, 2):
        with Feed(tmp_path, (3, 0, 0), 2, processes) as feed:
            found.append([feed.draw() for _ in range(3)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    first, second, third = (batch["inputs"] for batch in found[0])
    assert first.shape == (2, learned.CHANNELS, learned.GRID, learned.GRID)
    assert not torch.equal(first, second)
    assert not torch.equal(first, third)


def test_bits_unpack_as_they_were_packed():
    bits = np.random.default_rng(0).random((2, 3, 64)) < 0.5
    np.testing.assert_array_equal(unpack(torch.from_numpy(np.packbits(bits, axis=-1))), bits)


def total(terms: dict[str, float]) -> float:
    return sum(WEIGHTS[name] * value for name, value in terms.items())


@pytest.mark.parametrize("shape", [(8, 72), (72, 8)])
def test_orthogonalized_matrices_stretch_all_directions_alike(shape):
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 0, shape[1])
    stretch = torch.linalg.svdvals(orthogonalize(matrix))
    assert stretch.min() > 0.5
    assert stretch.max() < 1.4


def test_losses_vanish_for_the_truth(samples):
    batch = tensors(make_batch([{k: v[0] for k, v in pack([s]).items()} for s in samples[:3]], None))
    surface = torch.cat([batch["front"][:, None], batch["back"][:, None], batch["normals"]], 1)
    terms = losses(surface, batch)
    assert terms["union"] < 0.12  # what is hollow counts, and so do sheets thinner than a voxel
    assert max(terms[name] for name in ("front", "back", "slope")) < 1e-6
    assert terms["normal"] < 0.05  # some cells at the rim have no normal


def test_score_is_perfect_for_the_truth_wherever_it_stands():
    ball = solids.superquadric(rows=31, sides=48)
    view = look_at("ball", ball.vertices, ball.faces, 30, 10, np.random.default_rng(0))
    truth = Mesh(ball.vertices + np.array([0, 0, 0.4]), ball.faces)
    found = score(truth, view)
    assert found["iou"] > 0.96
    assert found["f_score"] > 0.999
    assert found["chamfer"] < 0.01
    thin = score(Mesh(ball.vertices * (1, 1, 0.5), ball.faces), view)
    assert thin["iou"] == pytest.approx(0.5, abs=0.03)
    assert thin["f_score"] < 0.7


def test_a_shard_that_was_broken_off_is_drawn_again(tmp_path):
    broken = tmp_path / f".shard-0000003.{os.getpid()}"
    broken.mkdir()
    (broken / "rgba.npy").write_bytes(b"half")
    write_shard(tmp_path, 3, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["shard-0000003"]
    assert len(Shards(tmp_path)) == 1


def test_what_is_inside_out_within_a_file_leaves_no_holes_in_the_truth():
    ball = solids.superquadric(rows=31, sides=48)
    inner = ball.vertices * 0.9
    vertices = np.concatenate([ball.vertices, inner])
    faces = np.concatenate([ball.faces, ball.faces[:, ::-1] + len(ball.vertices)])  # a shell, and to be a solid ball
    hollow, solid = (
        look_at("ball", vertices, faces, 30, 10, np.random.default_rng(0), closed=closed).solid.sum()
        for closed in (True, False)
    )
    alone = look_at("ball", ball.vertices, ball.faces, 30, 10, np.random.default_rng(0)).solid.sum()
    assert hollow < 0.4 * alone
    assert solid == pytest.approx(alone, rel=0.01)


@pytest.mark.parametrize("family", [workpieces.stacked, household.seat_or_table, outdoors.car])
def test_what_nobody_sees_is_what_winding_numbers_say_is_inside(family):
    assembly = Assembly(np.random.default_rng(3))
    family(assembly)
    vertices, faces, _ = assembly.join()
    vertices = vertices / np.ptp(vertices, axis=0).max()
    fragments = scan(vertices, faces, 64)
    inside = occupancy(fragments, -0.75, 96, *depth_maps(fragments))
    hidden = unseen(vertices, faces, 64, -0.75, 96)
    assert (inside & hidden).sum() > 0.95 * (inside | hidden).sum()


def test_bend_is_the_angle_between_faces():
    assert mean_bend(Mesh(solids.BOX.vertices, solids.BOX.faces)) == pytest.approx(90 * 24 / (24 + 12 * np.sqrt(2)))


@pytest.fixture(scope="module")
def inputs(samples):
    rows = [{name: values[0] for name, values in pack([sample]).items()} for sample in samples[:12]]
    return torch.from_numpy(make_batch(rows, None).inputs)


def test_shipped_network_can_be_trained_on(inputs):
    network = restore(learned.MODEL, inputs)
    shipped = learned.LearnedShape()
    for training in (False, True):  # with the statistics that were kept, and with those of the batch
        with torch.no_grad():
            surface = network.train(training)(inputs)
        for index in (0, 5, 11):
            expected = shipped._run(inputs[index].numpy())
            np.testing.assert_allclose(surface[index, :2], expected[:2], atol=1e-3)


def test_averages_of_networks_lie_between_them(inputs, tmp_path):
    network = restore(learned.MODEL, inputs)
    torch.nn.init.normal_(network.surface.bias, 0, 5)  # moves what is answered everywhere by as much
    shipped = learned.LearnedShape()._run(inputs[0].numpy())
    answers = []
    for share in (0.0, 0.5, 1.0):
        target = tmp_path / f"{share}.onnx"
        target.write_bytes(to_onnx(network, other=weights_of(learned.MODEL), share=share))
        answers.append(learned.LearnedShape(target)._run(inputs[0].numpy()))
    assert np.abs(answers[0] - shipped)[:2].mean() > 0.05
    np.testing.assert_allclose(answers[2], shipped, atol=1e-3)
    np.testing.assert_allclose(answers[1], (answers[0] + answers[2]) / 2, atol=5e-3)


def test_other_networks_are_not_taken_for_one_to_train_on(inputs, tmp_path):
    with pytest.raises(BadWeights, match=r"u2netp\.onnx does not hold a network of this size"):
        restore(learned.MODEL.with_name("u2netp.onnx"), inputs)


def test_union_is_the_overlap_of_columns_wherever_they_stand():
    z = Z_START + (torch.arange(LAYERS) + 0.5) / learned.GRID
    truth = (z.abs() < 10 / learned.GRID).float().repeat(6, 1)  # columns 20 cells long, of two objects
    owner = torch.tensor([0, 0, 0, 1, 1, 1])
    half = torch.tensor([10.0, 10.0, 10.0, 5.0, 5.0, 5.0]) / learned.GRID
    half.requires_grad_()
    shift = torch.tensor([2.0, 2.0, 2.0, 0.0, 0.0, 0.0]) / learned.GRID
    missed = _union(shift + half, shift - half, truth, owner, 2)
    np.testing.assert_allclose(missed.detach(), [0.0, 0.5], atol=1e-5)
    missed[1].backward()
    assert (half.grad[3:] < 0).all()  # longer columns would overlap more


def test_steps_make_a_network_and_go_on_where_they_were(tmp_path, capsys):
    data, checkpoint, target = tmp_path / "data", tmp_path / "run.pt", tmp_path / "shape.onnx"

    def make() -> None:
        main(["data", str(data), "--shards", "2", "--samples", "4", "--processes", "2"])
        main(["data", str(data), "--first", str(VALIDATION), "--shards", "1", "--samples", "2"])
        main(["fit", str(data), str(checkpoint), "--minutes", "0.002", "--start", str(learned.MODEL)])
        main(["export", str(checkpoint), str(target)])

    make()
    step = Trainer.load(checkpoint).step
    assert step >= 1
    first = target.read_bytes()
    target.unlink()
    stamps = {path: path.stat().st_mtime_ns for path in data.rglob("*.npy")}
    make()  # nothing is left to do but the file, which comes out the same
    assert Trainer.load(checkpoint).step == step
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*.npy")} == stamps
    assert target.read_bytes() == first
    crop = np.full((50, 40, 4), 255, np.uint8)
    answers = [learned.LearnedShape(target).predict(crop) for _ in range(2)]
    np.testing.assert_array_equal(answers[0].middle, answers[1].middle)
    np.testing.assert_array_equal(answers[0].half, answers[1].half)
    assert '"validation"' in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--feeders", "--batch", "--threads"])
def test_training_with_nothing_is_refused(option, capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["fit", "data", "run.pt", option, "0"])
    assert f"argument {option}: 0 is too few: 1 or more" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("start", [None, ""])
def test_make_target_runs_the_steps(start):
    root = Path(__file__).resolve().parents[2]
    chosen = [] if start is None else [f"START={start}"]
    said = subprocess.run(["make", "-n", "train-sketch", *chosen], cwd=root, capture_output=True, text=True, check=True)
    lines = re.findall(r"python -m orfeas\.engines\.sketch\.train (.*)", said.stdout)
    steps = [build_parser().parse_args(line.split()) for line in lines]
    assert [step.step for step in steps] == ["data", "data", "fit", "export"]
    assert steps[0].first == VALIDATION
    assert steps[2].start == (Path("assets/models/sketch-shape.onnx") if start is None else None)
    assert steps[3].other is None  # after a run of this length the two are too far apart to be averaged
    assert (steps[1].processes, steps[2].device, steps[2].threads, steps[2].feeders) == (1, "cpu", 1, 1)
    assert steps[2].folder == steps[0].folder == steps[1].folder
    assert f"benchmarks/sketch_shape.py --model {steps[3].target}" in said.stdout
